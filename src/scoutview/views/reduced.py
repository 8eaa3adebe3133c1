"""Views from a reduced read: which resolution suffices, and where a crop lies in it.

The kernels that sample it undo the wavelet's response (`kernels`), and crops move by the displacement of its pixels.
What differs from a full read is what the wavelet folded (see `images.wavelet`), half a large pixel at the borders, and
what preprocessing clips.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scoutview.images import wavelet
from scoutview.views.parameters import ViewParameters

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
