"""A canvas: an image with its mipmap, from which views of any scale are sampled.

Level l shows the image at 2^-l of its size, each level halved from the one before by the filter (1, 3, 3, 1) / 8 along
both axes. Its variance, 3/4, takes the blur of a pixel (a Gaussian of half a pixel) to that of the larger pixel, so a
level is the image rescaled, and rescaling it further composes. Every level has a border of the image mirrored at its
edges (half-sample symmetric), so that what samples it need not know where the image ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

UNIT = 32767
"""Pixels are int16 multiples of 1 / UNIT."""
BORDER = 48
"""px on each side of each level: what the margins of a view (`energy`) and the kernels (`kernels.reach`) take there."""
_SMALLEST = 8
"""Sides in px below which a level is not halved."""


@dataclass(frozen=True)
class Canvas:
    """pixels int16 [pixel]: the levels with their borders, one after the other, row by row; mean: of the image.

    shape: [row, column]; of a volume [slice, row, column], whose slices come one after the other, each with its levels.
    """

    pixels: npt.NDArray[np.int16]
    shape: tuple[int, ...]
    mean: float

    @property
    def planes(self) -> list[tuple[int, int]]:
        """(rows, columns) of the image, or of each slice of the volume."""
        return [(self.shape[-2], self.shape[-1])] * int(np.prod(self.shape[:-2]))


def level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """(rows, columns) of the levels of an image of `shape` px, without borders."""
    shapes = [shape]
    while min(shapes[-1]) >= _SMALLEST:
        rows, columns = shapes[-1]
        shapes.append(((rows + 1) // 2, (columns + 1) // 2))  # as often as one likes: rounded up once is rounded up
    return shapes


def layout(shapes: Sequence[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(starts, widths) [image, level] of canvases of these shapes, one after the other.

    starts: of pixel (0, 0) of each level, -1 where an image has no such level; widths: px from a row to the next.
    """
    levels = [level_shapes(shape) for shape in shapes]
    starts = np.full((len(shapes), max(len(held) for held in levels)), -1, dtype=np.int64)
    widths = np.zeros_like(starts)
    place = 0
    for image, held in enumerate(levels):
        for level, (rows, columns) in enumerate(held):
            width = columns + 2 * BORDER
            starts[image, level], widths[image, level] = place + BORDER * width + BORDER, width
            place += (rows + 2 * BORDER) * width
    return starts, widths


def canvas_of(image: npt.NDArray[np.float32]) -> Canvas:
    """The canvas of an image [row, column] in [0, 1], or of a volume [slice, row, column]."""
    if image.ndim == 3:
        slices = [canvas_of(plane) for plane in image]
        return Canvas(np.concatenate([plane.pixels for plane in slices]), image.shape, float(image.mean()))
    shape = (image.shape[0], image.shape[1])
    held = level_shapes(shape)
    pixels = np.empty(sum((rows + 2 * BORDER) * (columns + 2 * BORDER) for rows, columns in held), dtype=np.int16)
    level, place = image, 0
    for number, (rows, columns) in enumerate(held):
        axes = image.shape[0] / 2**number, image.shape[1] / 2**number
        bordered = pixels[place:][: (rows + 2 * BORDER) * (columns + 2 * BORDER)]
        bordered = bordered.reshape(rows + 2 * BORDER, columns + 2 * BORDER)
        # Cut off instead of rounded, which needs no memory of its own.
        inner = bordered[BORDER:-BORDER, BORDER:-BORDER]
        np.multiply(level, np.float32(UNIT), out=inner, casting="unsafe")
        _mirror_rows(bordered, axes[0])
        _mirror_rows(bordered.T, axes[1])
        place += bordered.size
        if number + 1 < len(held):
            level = _halved_rows(_halved_rows(level, axes[0]).T, axes[1]).T
            level *= np.float32(1 / 64)
    return Canvas(pixels, shape, float(torch.from_numpy(image).mean()))


def _mirrored(places: npt.NDArray[np.int64], axis: float) -> npt.NDArray[np.int64]:
    """The pixels that stand at `places`, which may lie outside; 0 and `axis`, in px, are where the image ends.

    Of an odd number of pixels half a pixel is left in the next level, a quarter in the one after it.
    """
    centre = (places + 0.5) % (2 * axis)
    return np.floor(np.where(centre > axis, 2 * axis - centre, centre)).astype(np.int64)


def _mirror_rows(bordered: npt.NDArray[np.int16], axis: float) -> None:
    """Fill the border's rows, in place."""
    rows = len(bordered) - 2 * BORDER
    if rows == axis and rows >= BORDER:  # the same without lists of places
        bordered[:BORDER] = bordered[2 * BORDER - 1 : BORDER - 1 : -1]
        bordered[-BORDER:] = bordered[-BORDER - 1 : -2 * BORDER - 1 : -1]
        return
    outside = np.concatenate([np.arange(-BORDER, 0), np.arange(rows, rows + BORDER)])
    bordered[BORDER + outside] = bordered[BORDER + _mirrored(outside, axis)]


def _halved_rows(image: npt.NDArray[np.float32], axis: float) -> npt.NDArray[np.float32]:
    """Every second row after the filter (1, 3, 3, 1), which is not divided by its sum here."""
    rows = int(np.ceil(axis / 2))
    if axis == 2 * rows:
        upper, lower, before, behind = image[0::2], image[1::2], image[:1], image[-1:]
    else:
        image = image[_mirrored(np.arange(-1, 2 * rows + 1), axis)]
        upper, lower, before, behind = image[1:-1:2], image[2:-1:2], image[:1], image[-1:]
    halved: npt.NDArray[np.float32] = upper + lower
    halved *= 3
    halved[1:] += lower[:-1]
    halved[:1] += before
    halved[:-1] += upper[1:]
    halved[-1:] += behind
    return halved
