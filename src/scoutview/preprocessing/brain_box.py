"""Where the brain is in a head CT: the box around the largest piece of soft tissue inside the skull.

Landmarks may tell it better: whatever returns a `Box` can take the place of `brain_box`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scoutview.errors import RunError
from scoutview.preprocessing.resample import Grid, Matrix, Values, resample

AIR = -1000.0
BONE = 200.0
"""HU; from here on a voxel of 2 mm holds bone."""
TISSUE = (-20.0, 120.0)
"""HU of brain, fluid and blood."""
STEP = 2.0
"""mm; the grid on which the brain is looked for."""
BORDER = 2
"""Voxels around the brain that the box holds, too."""
RADIUS = 10.0
"""mm; passages narrower than twice this (spinal canal, orbits, a burr hole) do not connect the brain to the outside."""
FORAMEN = 800.0
"""mm^2; an axial section of the brain has more than the foramen magnum, through which it becomes the spinal cord."""
SMALLEST = 200.0
"""mL; less is no brain, or too little of one. A newborn's is 350."""
LARGEST_GRID = 2**26

Mask = npt.NDArray[np.bool_]


class NoBrainError(RunError):
    """A volume in which no brain is found."""


@dataclass(frozen=True)
class Box:
    """A box in patient coordinates (LPS, mm).

    centre: x, y, z. size: along slices, rows and columns of what is cropped. axes: unit vectors [slice, row, column] in
    x, y, z; by default feet to head, front to back, right to left of the patient.
    """

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def grid(self, shape: tuple[int, int, int]) -> Grid:
        """The grid of `shape` slices, rows and columns whose voxels fill the box."""
        vectors = np.array(self.axes) * (np.array(self.size) / shape)[:, None]
        affine = np.eye(4)
        affine[:3, :3] = vectors[::-1].T
        affine[:3, 3] = np.array(self.centre) - ((np.array(shape) - 1) / 2) @ vectors
        return Grid(shape, affine)


FindBox = Callable[[npt.NDArray[np.floating], Matrix], Box]
"""HU [slice, row, column] and their affine (see `Grid`) -> the box to crop."""


def scan_box(shape: tuple[int, ...], affine: Matrix) -> Box:
    """The smallest box along the patient's axes that holds a whole scan."""
    corners = np.array([[n * bit - 0.5 for n, bit in zip(shape, bits, strict=True)] for bits in np.ndindex(2, 2, 2)])
    places = corners[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    low, high = places.min(0), places.max(0)
    x, y, z = ((low + high) / 2).tolist()
    width, depth, height = (high - low).tolist()
    return Box((x, y, z), (height, depth, width))


def brain_box(values: npt.NDArray[np.floating], affine: Matrix) -> Box:
    """The box around the brain in HU [slice, row, column], along the patient's axes, with up to 5 mm around it.

    Inside the skull is where bone is seen in at least three of four directions of the axial plane. Of the soft tissue
    there, parts that hang together by less than 20 mm are told apart, and the largest one is the brain, down to the
    foramen magnum.

    Raises:
        NoBrainError: if that is less than 200 mL.
    """
    around = scan_box(values.shape, affine)
    shape = tuple(max(int(np.ceil(side / STEP)), 1) for side in around.size)
    if np.prod(shape, dtype=np.float64) > LARGEST_GRID:
        raise NoBrainError(
            f"the scan covers {' x '.join(f'{side:.0f}' for side in around.size)} mm: that is no scan of a head, "
            "leave it out or give the box of the brain"
        )
    grid = around.grid((shape[0], shape[1], shape[2]))
    coarse, _ = resample(values, affine, grid, AIR)
    brain = _brain(coarse, np.array(around.size) / shape)
    volume = float(brain.sum() * np.prod(np.array(around.size) / shape) / 1000)
    if volume < SMALLEST:
        raise NoBrainError(
            f"the largest piece of soft tissue inside bone has {volume:.0f} mL, less than {SMALLEST:.0f}: this is no "
            "CT of a head in HU, or too little of one; leave it out or give the box of the brain"
        )
    return _box_around(brain, grid)


def _brain(hounsfield: Values, spacing: Matrix) -> Mask:
    """The voxels of the brain, in an axial volume."""
    bone = hounsfield > BONE
    seen = np.zeros(bone.shape, dtype=np.uint8)
    for axis in (1, 2):
        seen += np.maximum.accumulate(bone, axis=axis)
        seen += np.flip(np.maximum.accumulate(np.flip(bone, axis), axis=axis), axis)
    tissue = (hounsfield > TISSUE[0]) & (hounsfield < TISSUE[1]) & (seen >= 3)
    # Calcifications, and noise.
    tissue = ndimage.binary_fill_holes(tissue)
    core = ndimage.distance_transform_edt(tissue, sampling=spacing) > RADIUS
    labels, count = ndimage.label(core)
    if not count:
        return np.zeros(bone.shape, dtype=np.bool_)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    near = ndimage.distance_transform_edt(~largest, sampling=spacing) <= RADIUS + max(spacing)
    brain: Mask = tissue & near
    brain[brain.sum((1, 2)) * spacing[1] * spacing[2] < FORAMEN] = False
    return brain


def _box_around(mask: Mask, grid: Grid) -> Box:
    """The box along a grid's axes that holds all voxels of a mask, and BORDER more."""
    low, high = np.empty(3), np.empty(3)
    for axis in range(3):
        places = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
        # A border voxel is brain and bone, and counts as neither. Nothing outside the scan is added.
        low[axis], high[axis] = max(places[0] - BORDER, 0) - 0.5, min(places[-1] + BORDER, mask.shape[axis] - 1) + 0.5
    x, y, z = (grid.affine @ [*((low + high) / 2)[::-1], 1.0])[:3].tolist()
    lengths = np.linalg.norm(grid.affine[:3, 2::-1], axis=0) * (high - low)
    height, depth, width = lengths.tolist()
    return Box((x, y, z), (height, depth, width))
