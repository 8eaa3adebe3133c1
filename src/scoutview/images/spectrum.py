"""Radial power spectrum of an image, and the energy of its Gaussian bands from it (Eq. 8, spec section 4).

The bands are L_0 = I, L_k = G(sigma_k) * L_{k-1}, I_k = L_{k-1} - L_k for k = 1..5, I_6 = L_5, so that the six
bands sum to I. With half-sample symmetric borders the type-II DCT diagonalises every symmetric filter: a
coefficient (u, v) of an image of n_rows x n_columns has the frequency (pi u / n_rows, pi v / n_columns) rad/px,
and the cascade multiplies it by exp(-S_k^2 r^2 / 2), with r its radius and S_k^2 = sigma_1^2 + ... + sigma_k^2.
The variance of a band is therefore a sum over the power spectrum; binned by radius it is a dot product.

A rescale by the factor s is itself such a filter (`prefilter_sigma`, `cutoff`) followed by a change of unit:
a band of the rescaled image has sigma / s in pixels of the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from scoutview.images.cutoff import share_passed
from scoutview.images.slabs import row_slabs
from scoutview.images.wavelet import folded_at, folded_power

BAND_SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""px; of the Gaussians that part an image into bands, each on top of those before (Eq. 8)."""
BANDS = len(BAND_SIGMAS) + 1
"""The last band is what the widest Gaussian leaves."""
CASCADE_VARIANCES = np.cumsum(np.square((0.0, *BAND_SIGMAS)))

BINS = 48
SMALLEST_RADIUS = np.pi / 4096
LARGEST_RADIUS = np.pi * np.sqrt(2) * 1.0001
EDGES = np.geomspace(SMALLEST_RADIUS, LARGEST_RADIUS, BINS + 1)
_RADII = EDGES[:-1, None] * (EDGES[1] / EDGES[0]) ** ((np.arange(4) + 0.5) / 4)
"""Four radii in each bin."""

PIXEL_SIGMA = 0.5
"""An image is taken to have been blurred by its own pixel: a Gaussian of half a pixel (as in SIFT)."""
KEPT_AREA = 2**20
"""px; the bins of the last sizes up to this are kept, since an archive has few sizes (12 MB a size at most)."""

_AMPLITUDE_UNIT = 1024.0
"""Amplitudes are kept as fp16 multiples of 1/1024, which keeps variances above 1e-14 within 0.1%."""


@dataclass(frozen=True)
class Spectrum:
    """power [48]: variance of the image per bin of frequency radius; radius [48]: its power-weighted r.m.s. radius.

    The bins are `EDGES`, log-spaced in rad/px; the mean of the image is in none of them. Of a volume (see
    `volume_spectrum`) both are [depth frequency, 48], of its slices; depth [depth frequency, 1] is in rad per pixel of
    these.
    """

    power: npt.NDArray[np.float64]
    radius: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float64] | float = 0.0


def radial_spectrum(image: npt.NDArray[np.floating]) -> Spectrum:
    """Spectrum of an image [row, column] in [0, 1]."""
    return spectrum_of_coefficients(fft.dctn(image.astype(np.float32, copy=False), norm="ortho"), image.shape)


def spectrum_of_coefficients(
    coefficients: npt.NDArray[np.floating], shape: tuple[int, ...], with_mean: bool = False
) -> Spectrum:
    """Spectrum from the orthonormal DCT-II coefficients [row frequency, column frequency] of an image of `shape`.

    with_mean: take what does not change within the image, too, into the first bin.
    """
    rows, columns = shape
    total, second = np.zeros(BINS), np.zeros(BINS)
    for slab in row_slabs(rows, columns):
        bins = _kept_bins if rows * columns <= KEPT_AREA else _bins
        squared, index = bins(rows, columns, slab.start, slab.stop)
        power = np.square(coefficients[slab], dtype=np.float64)
        power /= rows * columns
        if slab.start == 0 and not with_mean:
            power[0, 0] = 0.0
        total += np.bincount(index, power.ravel(), BINS)
        power *= squared
        second += np.bincount(index, power.ravel(), BINS)
    centre = EDGES[:-1] * EDGES[1:]
    mean_squared = np.divide(second, total, out=centre.copy(), where=total > 0)
    return Spectrum(power=total, radius=np.sqrt(mean_squared))


def _bins(rows: int, columns: int, begin: int, end: int) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.intp]]:
    """Of the rows from begin to end: (squared radius [row frequency, column frequency], bin of each, flat)."""
    down = (np.pi * np.arange(begin, end, dtype=np.float32) / rows)[:, None] ** 2
    across = (np.pi * np.arange(columns, dtype=np.float32) / columns)[None] ** 2
    squared = down + across
    if begin == 0:
        squared[0, 0] = SMALLEST_RADIUS**2
    # log of the squared radius: half a logarithm less per pixel than a square root and a search.
    scale = BINS / (2 * np.log(LARGEST_RADIUS / SMALLEST_RADIUS))
    place = np.log(squared)
    place -= 2 * np.log(SMALLEST_RADIUS)
    place *= scale
    index: npt.NDArray[np.intp] = place.astype(np.intp).clip(0, BINS - 1).ravel()
    return squared, index


_kept_bins = lru_cache(maxsize=4)(_bins)


def prefilter_sigma(scale: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Sigma of the anti-aliasing Gaussian of a rescale by `scale`, in pixels of the original.

    It takes the image from the blur of its own pixel to that of the new one:
    PIXEL_SIGMA * sqrt(1 / scale^2 - 1), and 0 when enlarging.
    """
    squared = np.square(np.asarray(scale, dtype=np.float64))
    return PIXEL_SIGMA * np.sqrt(np.maximum(1.0 / squared - 1.0, 0.0))


def band_energies(spectrum: Spectrum, scale: npt.ArrayLike = 1.0, level: int = 0) -> npt.NDArray[np.float64]:
    """Standard deviations e_k of the six bands of the image rescaled by `scale` (Eq. 8, Omega = whole image).

    scale: any shape [...]; returns [..., 6]. In units of the image. level: of the reduced read that the rescaled image
    comes from, at most 2^-level in scale; what its wavelet folds into the bands is part of them. A volume is rescaled
    within its slices, and its bands are as wide along its depth as within them; it is never read reduced.
    """
    scales = np.asarray(scale, dtype=np.float64)
    bins = spectrum.power.shape
    factor = scales.reshape(scales.shape + (1,) * len(bins))
    radius = spectrum.radius
    prefilter = np.exp(-np.square(prefilter_sigma(factor) * radius))
    # The mean of a bin over four radii. An image that is not made smaller is taken as it is.
    share = share_passed(_RADII / (np.pi * factor[..., None]), factor[..., None] * 2**level).mean(-1)
    power = spectrum.power * prefilter * np.where(factor >= 1, 1.0, share)
    variances = CASCADE_VARIANCES.reshape((-1,) + (1,) * len(bins))
    distance = (np.square(radius) + np.square(spectrum.depth)) / np.square(factor)
    cascade = np.exp(-variances * np.expand_dims(distance, scales.ndim) / 2)
    cascade, power = (values.reshape(*values.shape[: -len(bins)], -1) for values in (cascade, power))
    responses = np.concatenate([cascade[..., :-1, :] - cascade[..., 1:, :], cascade[..., -1:, :]], axis=-2)
    variance = np.einsum("...b,...kb->...k", power, np.square(responses))
    if level:
        table = folded_power(level, tuple(EDGES), PIXEL_SIGMA, tuple(CASCADE_VARIANCES))
        folded = folded_at(table, scales * 2**level)
        variance = variance + np.einsum("b,...kb->...k", spectrum.power, folded)
    energies: npt.NDArray[np.float64] = np.sqrt(variance)
    return energies


def encode_spectrum(spectrum: Spectrum) -> bytes:
    """192 bytes: fp16 amplitudes (square root of the power, unit 1/1024) [48], then fp16 radii [48]."""
    amplitude = (np.sqrt(spectrum.power) * _AMPLITUDE_UNIT).astype("<f2")
    return amplitude.tobytes() + spectrum.radius.astype("<f2").tobytes()


def decode_spectrum(data: bytes | memoryview) -> Spectrum:
    """The inverse of `encode_spectrum`, up to fp16 rounding.

    Raises:
        ValueError: if there are not exactly 192 bytes.
    """
    if len(data) != 4 * BINS:
        raise ValueError(f"a spectrum has {4 * BINS} bytes, this has {len(data)}")
    values = np.frombuffer(data, dtype="<f2").astype(np.float64)
    return Spectrum(power=np.square(values[:BINS] / _AMPLITUDE_UNIT), radius=values[BINS:])
