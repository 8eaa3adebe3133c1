"""Stored values to network values in [0, 1], per modality, by one function that everyone calls.

In: int16 pixels and their calibration. Out: float32 [row, column]. `Preprocessing` travels in the encoder file.
"""

from scoutview.preprocessing.unit_range import Calibration, Preprocessing, calibration_of, preprocess

__all__ = ["Calibration", "Preprocessing", "calibration_of", "preprocess"]
