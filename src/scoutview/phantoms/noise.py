"""Random numbers of a patient, smooth random fields, and the noise of the three kinds of detector."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from scoutview.phantoms.finding import Array, Pixels

_MODALITY_NUMBERS = {"xray": 1, "ct": 2, "mr": 3, "us": 4}


def patient_generator(seed: int, modality: str, index: int) -> np.random.Generator:
    """The counter-based generator of patient `index`: independent of every other patient and modality."""
    key = np.random.SeedSequence([seed, _MODALITY_NUMBERS[modality], index])
    return np.random.Generator(np.random.Philox(key))


@lru_cache(maxsize=256)
def _spline_basis(length: int, cells: int) -> Pixels:
    """Cubic B-spline weights [length, cells + 3] of `cells` equal intervals over `length` samples."""
    position = np.arange(length) * (cells / length)
    knot = position.astype(int)
    t = position - knot
    weights: Array = (
        np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6.0
    )
    basis = np.zeros((length, cells + 3), dtype=np.float32)
    for offset in range(4):
        basis[np.arange(length), knot + offset] = weights[:, offset]
    return basis


def smooth_field(generator: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Pixels:
    """A smooth random field [row, column] with mean 0 and standard deviation near 1.

    White noise on a grid of `cells` intervals (row, column) is interpolated by cubic B-splines:
    f = B_row W B_column^T. The mean of B(t)^2 over a cell, summed over knots, is 151/315 for each axis, so
    dividing f by that number gives unit variance.
    """
    knots = generator.standard_normal((cells[0] + 3, cells[1] + 3), dtype=np.float32)
    field: Array = _spline_basis(shape[0], cells[0]) @ knots @ _spline_basis(shape[1], cells[1]).T
    unit: Pixels = field * np.float32(315.0 / 151.0)
    return unit


def blur(image: Pixels, sigma: float | tuple[float, float]) -> Pixels:
    """Gaussian blur with standard deviation `sigma` in px, cut at 2.5 sigma."""
    blurred: Pixels = ndimage.gaussian_filter(image, sigma, truncate=2.5, mode="nearest")
    return blurred


def rician(generator: np.random.Generator, signal: Pixels, sigma: float) -> Pixels:
    """Magnitude MR: M = |S + n1 + i n2| with n1, n2 ~ N(0, sigma^2), the Rice distribution of the signal S.

    In air (S = 0) it is Rayleigh with mean sigma * sqrt(pi / 2); at high signal it is normal with sd sigma.
    """
    real = signal + np.float32(sigma) * generator.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * generator.standard_normal(signal.shape, dtype=np.float32)
    magnitude: Pixels = np.hypot(real, imaginary)
    return magnitude


def speckle(generator: np.random.Generator, shape: tuple[int, int], resolution: tuple[float, float]) -> Pixels:
    """Amplitude [depth, beam] of fully developed speckle with mean square 1.

    Many scatterers in each resolution cell add up to a complex Gaussian echo. Its amplitude after the point
    spread function (a Gaussian of `resolution` = (axial, lateral) px) is Rayleigh distributed with scale
    1/sqrt(2): mean sqrt(pi)/2, and mean over standard deviation 1.91.
    """
    real = blur(generator.standard_normal(shape, dtype=np.float32), resolution)
    imaginary = blur(generator.standard_normal(shape, dtype=np.float32), resolution)
    # The energy of a sampled Gaussian kernel is what white noise keeps of its variance.
    impulse = np.zeros((41, 41), dtype=np.float32)
    impulse[20, 20] = 1.0
    gain = np.sqrt(2.0 * np.square(blur(impulse, resolution)).sum())
    amplitude: Array = np.hypot(real, imaginary) / np.float32(gain)
    return amplitude


def quantum_noise(generator: np.random.Generator, attenuation: Pixels, photons: float) -> Pixels:
    """Noise of the logarithm of a photon count.

    A detector element expects N = photons * exp(-A); the count is Poisson, so the standard deviation of
    log N is 1/sqrt(N) (normal approximation, N >> 1). Dense regions are noisier.
    """
    deviation = np.exp(0.5 * attenuation) / np.float32(np.sqrt(photons))
    noise: Pixels = deviation * generator.standard_normal(attenuation.shape, dtype=np.float32)
    return noise
