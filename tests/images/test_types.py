"""Stored values keep their meaning; statistics and hashes equal independent ones."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scoutview.images import difference_hash, measure, pixel_sha256
from scoutview.images.types import to_int16


@given(arrays.arrays(np.uint16, (5, 7)))
def test_unsigned_16_bit_survives_exactly(values: np.ndarray) -> None:
    pixels, slope, offset, shifted = to_int16(values)
    np.testing.assert_array_equal(pixels.astype(np.int64) * slope + offset, values)
    assert shifted == (int(values.max()) > 32767)


@given(arrays.arrays(np.int32, (4, 4), elements=st.integers(-(2**31), 2**31 - 1)))
def test_wide_integers_within_a_step_of_quantisation(values: np.ndarray) -> None:
    pixels, slope, offset, _ = to_int16(values)
    span = int(values.max()) - int(values.min())
    error = np.abs(pixels.astype(np.float64) * slope + offset - values.astype(np.float64))
    assert error.max() <= max(span / 131070, 1e-3) * 1.01


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        to_int16(np.array([[0.5, np.nan]]))


@given(arrays.arrays(np.int16, (9, 11)))
def test_statistics_equal_numpy(pixels: np.ndarray) -> None:
    statistics = measure(pixels)
    assert statistics.minimum == pixels.min()
    assert statistics.maximum == pixels.max()
    assert statistics.mean == pytest.approx(pixels.mean(), abs=1e-9)
    assert statistics.deviation == pytest.approx(pixels.astype(float).std(), rel=1e-9, abs=1e-9)
    assert statistics.low == np.quantile(pixels, 0.005, method="inverted_cdf")
    assert statistics.high == np.quantile(pixels, 0.995, method="inverted_cdf")


def test_sha256_depends_on_shape_and_values() -> None:
    pixels = np.arange(12, dtype=np.int16)
    expected = hashlib.sha256(b"int16 3 4;" + pixels.astype("<i2").tobytes()).hexdigest()
    assert pixel_sha256(pixels.reshape(3, 4)) == expected
    assert pixel_sha256(pixels.reshape(4, 3)) != expected


def test_difference_hash_forgives_brightness_and_noise_but_not_content() -> None:
    generator = np.random.default_rng(5)
    base = generator.integers(0, 900, (8, 9)).repeat(16, 0).repeat(16, 1).astype(np.int16)
    noisy = (base + generator.integers(-3, 4, base.shape) + 50).astype(np.int16)
    other = generator.integers(0, 900, (8, 9)).repeat(16, 0).repeat(16, 1).astype(np.int16)

    def distance(a: np.ndarray, b: np.ndarray) -> int:
        return (int(difference_hash(a), 16) ^ int(difference_hash(b), 16)).bit_count()

    assert distance(base, noisy) <= 4
    assert distance(base, other) > 16
    cells = base[::16, ::16].astype(float)
    bits = "".join("1" if cells[r, c + 1] > cells[r, c] else "0" for r in range(8) for c in range(8))
    assert difference_hash(base) == f"{int(bits, 2):016x}"
