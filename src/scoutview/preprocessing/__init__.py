"""Stored values to network values in [0, 1], per modality, by one function that everyone calls.

In: int16 pixels and their calibration. Out: float32 [row, column]. `Preprocessing` travels in the encoder file. Head CT
for 3D networks has a way of its own: HU and an affine in, the brain as 40 x 224 x 192 out.
"""

from scoutview.preprocessing.brain_box import Box, FindBox, NoBrainError, brain_box
from scoutview.preprocessing.head_ct import HEAD_SHAPE, HeadVolume, head_volume
from scoutview.preprocessing.resample import Grid, resample, window_weights
from scoutview.preprocessing.unit_range import Calibration, Preprocessing, calibration_of, preprocess

__all__ = [
    "HEAD_SHAPE",
    "Box",
    "Calibration",
    "FindBox",
    "Grid",
    "HeadVolume",
    "NoBrainError",
    "Preprocessing",
    "brain_box",
    "calibration_of",
    "head_volume",
    "preprocess",
    "resample",
    "window_weights",
]
