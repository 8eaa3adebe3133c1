"""What a reduced read shows: the low-pass band of the codestream's wavelet (the reversible 5/3 of JPEG 2000 Annex F).

A level filters each axis with (-1, 2, 6, 2, -1) / 8 around every second pixel, and keeps these. After `level` times,
pixel j of the result stands at pixel 2^level j of the image, and what lies above the new Nyquist frequency is folded
below it. The response of the filter is known: what was there before is restored, what was folded can be predicted.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from scoutview.images.cutoff import roll_off

OVERSHOOT = (1.0, 2.25, 2.640625, 2.84765625)
"""By level: sum of the absolute weights of a pixel of the result, over both axes."""

Numbers = npt.NDArray[np.float64]

_STEPS = 32
"""Rescale factors, relative to the result, for which folding is tabulated; in between it is interpolated."""
_RADII, _ANGLES = 4, 24
"""Points per bin of the spectrum, and on a quarter of a circle."""


def low_pass(frequency: Numbers, level: int) -> Numbers:
    """Response of the filter to frequencies in rad per pixel of the image: 1 at 0, 1 to 1.3 up to the new Nyquist's.

    H(w) = 6/8 + 4/8 cos w - 2/8 cos 2w = 1 + cos w (1 - cos w) / 2, multiplied over w, 2 w, ..., 2^(level - 1) w.
    """
    response = np.ones_like(frequency)
    for octave in range(level):
        cosine = np.cos(frequency * 2**octave)
        response = response * (1.0 + cosine * (1.0 - cosine) / 2.0)
    return response


def displacement(level: int) -> float:
    """How far its content lies right of and below where an area average would show it, in pixels of the image."""
    return float(2**level - 1) / 2


def fits_int16(minimum: float, maximum: float, level: int) -> bool:
    """Whether no pixel of the result can leave int16, in which decoders wrap around."""
    middle, half = (minimum + maximum) / 2, (maximum - minimum) / 2
    # The integer lifting rounds, by less than one per level and axis.
    return level == 0 or bool(abs(middle) + OVERSHOOT[level] * half + 2 * level < np.iinfo(np.int16).max)


@cache
def folded_power(level: int, edges: tuple[float, ...], pixel_sigma: float, variances: tuple[float, ...]) -> Numbers:
    """How much of the power in each bin of an isotropic spectrum is folded into the bands of a rescaled result.

    [step, band, bin]; at step i the result is rescaled by (i + 1) / 32. edges: of the bins, in rad/px; pixel_sigma:
    blur of a pixel (the filter of a rescale takes it from that of the image to that of the view); variances: of the
    cascade of Gaussians whose differences are the bands, in squared pixels of the view.
    """
    nyquist = np.pi / 2**level
    steps = (np.arange(_RADII) + 0.5) / _RADII
    radius = np.array(edges[:-1])[:, None] * (edges[1] / edges[0]) ** steps
    angle = (np.arange(_ANGLES) + 0.5) / _ANGLES * np.pi / 2
    axes = np.stack([radius[..., None] * np.cos(angle), radius[..., None] * np.sin(angle)])
    inside = (axes <= np.pi).all(0)
    # Frequencies of the image that a decimation cannot tell apart: 2 nyquist n +- w.
    below = np.abs(axes - 2 * nyquist * np.round(axes / (2 * nyquist)))
    gain = np.square(low_pass(axes, level) / low_pass(below, level)).prod(0)
    gain = np.where(inside & (axes > nyquist).any(0), gain, 0.0)
    weight = gain / np.maximum(inside.sum((1, 2)), 1)[:, None, None]
    squared = np.square(below).sum(0)
    table = np.empty((_STEPS, len(variances), len(edges) - 1))
    for step in range(_STEPS):
        scale = (step + 1) / _STEPS / 2**level
        passing = weight * np.square(roll_off(below / (np.pi * scale))).prod(0)
        passing = passing * np.exp(-squared * pixel_sigma**2 * (1 / scale**2 - 1))
        cascade = np.exp(-np.multiply.outer(variances, squared) / (2 * scale**2))
        responses = np.concatenate([cascade[:-1] - cascade[1:], cascade[-1:]])
        table[step] = np.einsum("bra,kbra->kb", passing, np.square(responses))
    return table


def folded_at(table: Numbers, relative: Numbers) -> Numbers:
    """[..., band, bin] of `folded_power` at rescale factors [...] relative to the result, at most 1."""
    place = np.clip(relative * _STEPS - 1, 0, _STEPS - 1)
    low = np.minimum(place.astype(np.int64), _STEPS - 2)
    weight = (place - low)[..., None, None]
    found: Numbers = (1 - weight) * table[low] + weight * table[low + 1]
    return found
