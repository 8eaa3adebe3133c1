"""Head CT as the paper shows it to its 3D networks (section IV-E): axial, the brain cropped, one size, one window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoutview.preprocessing.brain_box import AIR, FindBox, NoBrainError, brain_box
from scoutview.preprocessing.resample import Matrix, Values, resample

HEAD_SHAPE = (40, 224, 192)
"""Slices, rows, columns."""
CENTRE, WINDOW = 55.0, 200.0
"""HU; 0 is 45 HU below zero, 1 is 155 HU."""


@dataclass(frozen=True)
class HeadVolume:
    """pixels: float32 [slice, row, column] in [0, 1], from feet to head, front to back, the patient's right to left.

    affine: 4 x 4 from (column, row, slice, 1) to patient coordinates in mm (LPS). scanned: bool [slice]; False where
    more than half of a slice lies outside the scan, so that no label can be about it.
    """

    pixels: Values
    affine: Matrix
    scanned: npt.NDArray[np.bool_]


def head_volume(
    hounsfield: npt.NDArray[np.floating],
    affine: Matrix,
    find_box: FindBox = brain_box,
    shape: tuple[int, int, int] = HEAD_SHAPE,
) -> HeadVolume:
    """Crop the brain of a head CT, bring it to `shape`, and window it: (HU + 45) / 200, clipped to [0, 1].

    hounsfield: HU [slice, row, column] of any size and orientation, tilted gantry included; affine: see `HeadVolume`.
    The box is scaled to fill `shape` along each of its axes, HU being averaged before they are clipped.

    Raises:
        NoBrainError: if there is no brain in it, or values that are not finite.
        ValueError: if the affine is not one of a volume.
    """
    if not np.isfinite((hounsfield.min(), hounsfield.max())).all():
        raise NoBrainError("the volume holds values that are not finite: leave it out")
    grid = find_box(hounsfield, affine).grid(shape)
    values, inside = resample(hounsfield, affine, grid, AIR)
    pixels = np.clip((values - np.float32(CENTRE - WINDOW / 2)) / np.float32(WINDOW), 0.0, 1.0)
    return HeadVolume(pixels, grid.affine, inside.mean((1, 2)) >= 0.5)
