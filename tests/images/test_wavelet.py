"""What a reduced decode shows, against the wavelet's filter applied by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scoutview.images.wavelet import OVERSHOOT, fits_int16, low_pass
from scoutview.store.codec import decode, encode

FILTER = np.array([-1, 2, 6, 2, -1]) / 8


def low_band(image: np.ndarray, level: int) -> np.ndarray:
    """The 5/3 low-pass band in float64: whole-sample symmetric borders, every second pixel from the first."""
    for _ in range(level):
        for _ in range(2):
            padded = np.pad(image, ((2, 2), (0, 0)), mode="reflect")
            filtered = sum(weight * padded[place : place + len(image)] for place, weight in enumerate(FILTER))
            image = filtered[::2].T
    return image


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_reduced_decode_is_the_low_pass_band(level: int) -> None:
    image = np.random.default_rng(level).integers(-9000, 9000, (65, 130)).astype(np.int16)
    assert fits_int16(-9000, 9000, level)
    np.testing.assert_allclose(decode(encode(image), level), low_band(image.astype(float), level), atol=2 * level)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_response_and_overshoot_are_those_of_the_repeated_filter(level: int) -> None:
    weights = np.ones(1)
    for octave in range(level):
        spread = np.zeros(4 * 2**octave + 1)
        spread[:: 2**octave] = FILTER
        weights = np.convolve(weights, spread)
    assert OVERSHOOT[level] == pytest.approx(np.abs(weights).sum() ** 2)
    frequency = np.linspace(0, np.pi, 50)
    places = np.arange(len(weights)) - len(weights) // 2
    np.testing.assert_allclose(low_pass(frequency, level), np.cos(np.outer(frequency, places)) @ weights, atol=1e-12)
    kept = frequency <= np.pi / 2**level
    assert low_pass(frequency, level)[kept].min() > 1 - 1e-12


@pytest.mark.parametrize("level", [1, 2, 3])
def test_where_the_decoder_would_wrap_is_known(level: int) -> None:
    wrapped = 0
    for seed in range(4):
        generator = np.random.default_rng(seed)
        blocks = generator.integers(0, 2, (64, 64)).repeat(2 ** (level - 1), 0).repeat(2 ** (level - 1), 1)
        for half in (5000, 11000, 14000, 20000, 32767):
            image = (blocks * 2 * half - half).astype(np.int16)
            wrong = np.abs(decode(encode(image), level) - low_band(image.astype(float), level)).max() > 1000
            wrapped += wrong
            assert not (wrong and fits_int16(-half, half, level))
    assert wrapped
    assert fits_int16(-32768, 32767, 0)
    assert fits_int16(0, 4095, level)
    assert not fits_int16(-32768, 32767, level)
