"""The noise models against scipy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scoutview.phantoms.noise import patient_generator, quantum_noise, rician, smooth_field, speckle


@pytest.mark.parametrize(("signal", "sigma"), [(0.0, 2.0), (3.0, 2.0), (40.0, 2.0)])
def test_magnitude_noise_has_the_rice_distribution(signal: float, sigma: float) -> None:
    drawn = rician(np.random.default_rng(0), np.full((200, 200), signal, dtype=np.float32), sigma).ravel()
    expected = stats.rice(signal / sigma, scale=sigma)
    assert stats.kstest(drawn[::4], expected.cdf).pvalue > 0.01
    assert drawn.mean() == pytest.approx(expected.mean(), rel=0.01)
    assert drawn.var() == pytest.approx(expected.var(), rel=0.03)


def test_speckle_has_the_rayleigh_distribution() -> None:
    amplitude = speckle(np.random.default_rng(1), (512, 512), (1.0, 2.0))
    # Pixels further apart than the point spread function are independent.
    apart = amplitude[::8, ::16].ravel()
    expected = stats.rayleigh(scale=np.sqrt(0.5))
    assert stats.kstest(apart, expected.cdf).pvalue > 0.01
    assert np.mean(np.square(amplitude)) == pytest.approx(1.0, rel=0.03)
    assert amplitude.mean() / amplitude.std() == pytest.approx(expected.mean() / expected.std(), rel=0.03)


def test_speckle_is_wider_across_the_beam_than_along_it() -> None:
    amplitude = speckle(np.random.default_rng(2), (256, 256), (0.8, 2.4)) - np.sqrt(np.pi) / 2
    along = np.mean(amplitude[:-2] * amplitude[2:])
    across = np.mean(amplitude[:, :-2] * amplitude[:, 2:])
    assert across > 2 * along


def test_quantum_noise_follows_poisson_counts() -> None:
    """The deviation of log N for N ~ Poisson(photons exp(-A)), simulated by counting."""
    photons = 5e4
    for attenuation in (1.0, 4.0):
        field = np.full((200, 200), attenuation, dtype=np.float32)
        drawn = quantum_noise(np.random.default_rng(3), field, photons)
        counts = np.random.default_rng(4).poisson(photons * np.exp(-attenuation), 40_000)
        assert drawn.std() == pytest.approx(np.log(counts).std(), rel=0.03)


def test_smooth_field_is_standardised_and_smooth() -> None:
    fields = [smooth_field(np.random.default_rng(k), (96, 128), (12, 16)) for k in range(40)]
    assert np.std(fields) == pytest.approx(1.0, rel=0.03)
    assert np.mean(fields) == pytest.approx(0.0, abs=0.03)
    steps = np.abs(np.diff(fields[0], axis=0))
    assert steps.max() < 0.6


def test_generators_of_patients_and_modalities_differ() -> None:
    keys = [(0, "ct", 0), (0, "ct", 1), (1, "ct", 0), (0, "mr", 0)]
    drawn = {tuple(patient_generator(*key).random(4)) for key in keys}
    assert len(drawn) == 4
    assert np.array_equal(patient_generator(0, "ct", 0).random(4), patient_generator(0, "ct", 0).random(4))
