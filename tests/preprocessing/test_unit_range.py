"""Stored values to [0, 1] against the rules written out."""

from __future__ import annotations

import numpy as np
import pytest

from scoutview.images import Image, Modality
from scoutview.preprocessing import Calibration, Preprocessing, calibration_of, preprocess


def test_hounsfield_units_follow_the_curve_whatever_the_storage() -> None:
    hounsfield = np.array([[-3000, -1024, -587, -20], [40, 100, 300, 4000]], dtype=np.float64)
    expected = [[0.0, 0.0, 0.1, 0.35], [0.55, 0.75, 0.85, 1.0]]
    for slope, offset in ((1.0, 0.0), (1.0, -1024.0), (0.5, -200.0)):
        stored = np.rint((hounsfield - offset) / slope).astype(np.int16)
        calibration = Calibration("ct", slope, offset, "HU", -1e4, -1e4, 1e4, 1e4)
        np.testing.assert_allclose(preprocess(stored, calibration, Preprocessing()), expected, atol=2e-4)


@pytest.mark.parametrize("modality", ["xray", "mr", "us", "ct"])
def test_arbitrary_units_span_their_percentiles(modality: Modality) -> None:
    pixels = np.random.default_rng(0).integers(-500, 3000, (40, 50)).astype(np.int16)
    result = preprocess(pixels, calibration_of(Image(pixels, modality)), Preprocessing())
    low, high = np.quantile(pixels, [0.005, 0.995], method="inverted_cdf")
    expected = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result.dtype == np.float32


def test_slope_and_offset_do_not_matter_for_arbitrary_units() -> None:
    pixels = np.random.default_rng(1).integers(0, 200, (16, 16)).astype(np.int16)
    plain = preprocess(pixels, calibration_of(Image(pixels, "mr")), Preprocessing())
    scaled = preprocess(pixels, calibration_of(Image(pixels, "mr", slope=7.5, offset=-3.0)), Preprocessing())
    np.testing.assert_array_equal(plain, scaled)


def test_degenerate_images_stay_finite() -> None:
    nearly = np.zeros((100, 100), dtype=np.int16)
    nearly[0, 0] = 9
    assert preprocess(nearly, calibration_of(Image(nearly, "us")), Preprocessing()).max() == 1.0
    constant = np.full((8, 8), 7, dtype=np.int16)
    assert (preprocess(constant, calibration_of(Image(constant, "us")), Preprocessing()) == 0).all()


def test_identity_names_the_settings_and_survives_json() -> None:
    other = Preprocessing(hounsfield=(-1000.0, 1000.0), level=(0.0, 1.0))
    assert other.identity() != Preprocessing().identity()
    again = Preprocessing.from_dict({"hounsfield": [-1000.0, 1000.0], "level": [0.0, 1.0]})
    assert again.identity() == other.identity()
    with pytest.raises(ValueError, match="ascending"):
        Preprocessing(hounsfield=(0.0, -1.0), level=(0.0, 1.0))
