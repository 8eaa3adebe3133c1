"""Views from a reduced read: its coefficients are made those of the image rescaled to its size, as if from all pixels.

The band that the wavelet passes is divided by its response and blurred by the larger pixel instead, and crops move by
the displacement of its pixels. What differs from a full read is what the wavelet folded (see `images.wavelet`), half a
large pixel at the borders, and what preprocessing clips.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from scoutview.images import wavelet
from scoutview.images.spectrum import PIXEL_SIGMA
from scoutview.views.parameters import ViewParameters
from scoutview.views.rescale import image_coefficients

SMALLEST_SIDE = 128
"""Least short side in px of a reduced read: of smaller ones half a pixel is too much."""


def read_level(shape: tuple[int, int], scale: float, most: int) -> int:
    """The coarsest level, up to `most`, at which an image of `shape` [row, column] px still has a view's pixels.

    scale: the largest rescale factor of its views.
    """
    for level in range(most, 0, -1):
        if scale * 2**level <= 1 and min(shape) >= SMALLEST_SIDE * 2**level:
            return level
    return 0


def reduced_coefficients(image: npt.NDArray[np.float32], level: int, keep: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Coefficients [row frequency, column frequency], the first `keep`, of a read at `level` [row, column] in [0, 1].

    They are those of the whole image rescaled by 2^-level; at level 0 those of the image itself.
    """
    coefficients = image_coefficients(image, keep)
    if not level:
        return coefficients
    variance = PIXEL_SIGMA**2 * (1 - 0.25**level)
    weights = []
    for count, length in zip(keep, image.shape, strict=True):
        frequency = np.pi * np.arange(count) / length
        response = wavelet.low_pass(frequency / 2**level, level)
        weights.append((np.exp(-variance * np.square(frequency) / 2) / response).astype(np.float32))
    coefficients *= weights[0][:, None]
    coefficients *= weights[1][None]
    return coefficients


def on_reduced(parameters: ViewParameters, level: int) -> ViewParameters:
    """Parameters of views of an image as those of the same views of its reduced read."""
    if not level:
        return parameters
    moved = np.float32(wavelet.displacement(level)) * parameters.scale
    return replace(
        parameters,
        scale=parameters.scale * np.float32(2**level),
        top=parameters.top + moved,
        left=parameters.left + moved,
    )
