"""Voxels -> slices in the radiological display: as a radiologist sees them, and as DICOM lies.

Axial slices have anterior on top, coronal and sagittal ones superior on top; the patient's right (in sagittal
slices anterior) is on the left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import numpy.typing as npt

from scoutview.images import Image, Modality
from scoutview.images.types import Levels, is_whole
from scoutview.ingest.calibration import TISSUE, not_hounsfield
from scoutview.ingest.limits import check_size
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules
from scoutview.ingest.stacks import FEWEST_SLICES
from scoutview.ingest.voxels import BLOCK, Voxels

THICK = 1.5
"""Slices lie across the axis whose spacing is this many times the next one's; otherwise they are axial."""
FEWEST_VALUES = 20
"""A volume with fewer distinct values is a label map."""
MOST_VOLUMES = 8
"""Of a time series, evenly spaced, as of a film; the others are much the same."""
_SAMPLE = 65536

Indexed = tuple[str, Image]


@dataclass(frozen=True)
class VolumeGrid:
    """A volume with its axes turned to right, anterior, superior as near as flips and swaps can.

    orientation: nibabel's, [x, y, z] -> (axis, direction). shape, spacing (mm) and affine (to RAS in mm): turned.
    axis: the turned one across the slices.
    """

    orientation: npt.NDArray[np.float64]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: npt.NDArray[np.float64]
    axis: int

    @classmethod
    def of(cls, shape: tuple[int, int, int], affine: npt.NDArray[np.float64]) -> VolumeGrid:
        """The grid of a volume [x, y, z].

        Raises:
            RefusedError: bad_header.
        """
        orientation = nib.io_orientation(affine)
        if np.isnan(orientation).any():
            raise RefusedError("bad_header", "the affine does not give every axis a direction")
        zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        turned, spacing = [0, 0, 0], [0.0, 0.0, 0.0]
        for source, target in enumerate(orientation[:, 0].astype(int)):
            turned[target], spacing[target] = shape[source], float(zooms[source])
        return cls(
            orientation=orientation,
            shape=(turned[0], turned[1], turned[2]),
            spacing=(spacing[0], spacing[1], spacing[2]),
            affine=affine @ nib.orientations.inv_ornt_aff(orientation, shape),
            axis=_slice_axis(turned, spacing),
        )

    @property
    def plane(self) -> tuple[int, int]:
        """The two turned axes within a slice."""
        first, second = (other for other in range(3) if other != self.axis)
        return first, second


def images_of(voxels: Voxels, modality: Modality, name: str, rules: Rules, source_format: str) -> Iterator[Indexed]:
    """(index, slice along the acquired axis) of a volume, or of evenly spaced volumes of several.

    name: what stands for the file as a series. The index is that of the slice, or "volume/slice". The stored
    integers are kept with their slope and offset; floats are quantised over the volume. CT is "HU" or refused.
    Slices of one value are among them.

    Raises:
        RefusedError: with the reason code; it holds for all slices.
    """
    grid = VolumeGrid.of(voxels.shape, voxels.affine)
    if voxels.count == 1:
        for image in _slices(voxels, grid, modality, name, name, rules, source_format):
            yield str(image.slice_index), image
        return
    taken = min(MOST_VOLUMES, voxels.count)
    for place in range(taken):
        number = int((place + 0.5) * voxels.count / taken)
        stack = f"{name}#{number}"
        for image in _slices(voxels.volume(number), grid, modality, name, stack, rules, source_format):
            yield f"{number}/{image.slice_index}", image


def shown_slices(voxels: Voxels, grid: VolumeGrid) -> Iterator[npt.NDArray[np.generic]]:
    """Values [row, column] of each slice of a volume in order, as they are shown.

    Raises:
        RefusedError: truncated or unreadable.
    """
    source = int(np.flatnonzero(grid.orientation[:, 0] == grid.axis)[0])
    backwards = grid.orientation[source, 1] < 0
    count = grid.shape[grid.axis]
    step = max(1, BLOCK * count // voxels.nbytes)
    for first in range(0, count, step):
        last = min(first + step, count)
        place = (count - last, count - first) if backwards else (first, last)
        turned = nib.apply_orientation(voxels.part(source, *place), grid.orientation)
        # [first plane axis, second plane axis] in RAS becomes [row, column] seen from the radiologist's side.
        for values in np.moveaxis(turned, grid.axis, 0):
            yield values[::-1, ::-1].T


def _slices(
    voxels: Voxels, grid: VolumeGrid, modality: Modality, name: str, stack: str, rules: Rules, source_format: str
) -> Iterator[Image]:
    levels, units = _measured(voxels, modality, rules)
    first, second = grid.plane
    check_size(grid.shape[second], grid.shape[first])
    slope, offset = abs(voxels.slope), voxels.offset
    for index, values in enumerate(shown_slices(voxels, grid)):
        yield Image(
            pixels=levels.pixels(values),
            modality=modality,
            slope=slope * levels.slope,
            offset=slope * levels.offset + offset,
            units=units,
            shifted=levels.shifted,
            spacing=(grid.spacing[second], grid.spacing[first]),
            series=name,
            stack=stack if grid.shape[grid.axis] >= FEWEST_SLICES else "",
            slice_index=index,
            slice_position=index * grid.spacing[grid.axis],
            slice_spacing=grid.spacing[grid.axis],
            affine=_shown_affine(grid, index),
            flags=() if stack == name else ("series_sample",),
            source_format=source_format,
        )


def _measured(voxels: Voxels, modality: Modality, rules: Rules) -> tuple[Levels, str]:
    """(levels, units) of a volume, from a first pass over its values."""
    lows, highs = [], []
    whole = True
    distinct = np.empty(0, voxels.dtype.newbyteorder("="))
    fractions = 0.0
    slope, offset = abs(voxels.slope), voxels.offset
    for values in voxels.blocks():
        floats = values.dtype.kind == "f"
        low, high = values.min(), values.max()
        if floats and not np.isfinite((low, high)).all():
            raise RefusedError("not_finite", "NaN or infinity")
        lows.append(low)
        highs.append(high)
        flat = values.ravel(order="K")
        whole = whole and (not floats or is_whole(flat))
        distinct = _with_distinct(distinct, flat)
        if modality == "ct":
            step = max(1, voxels.nbytes // voxels.dtype.itemsize // _SAMPLE)
            physical = flat[::step].astype(np.float64) * slope + offset
            fractions = max(fractions, float(np.abs(physical - np.rint(physical)).max()))
    if distinct.size < FEWEST_VALUES:
        raise RefusedError("label_map", f"fewer than {FEWEST_VALUES} distinct values")
    low, high = min(lows), max(highs)
    if modality == "ct":
        why = not_hounsfield([float(low) * slope + offset], [float(high) * slope + offset > TISSUE])
        if why and rules.air == "required":
            raise RefusedError("not_hu", why)
        if fractions > 1e-3:
            raise RefusedError("not_hu", "values that are not whole Hounsfield units")
    if np.asarray(low).dtype.kind == "f":
        return Levels.between(float(low), float(high), integers=False, whole=whole), "HU" if modality == "ct" else ""
    return Levels.between(int(low), int(high), integers=True, whole=True), "HU" if modality == "ct" else ""


def _with_distinct(known: npt.NDArray[np.generic], values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The distinct values known so far and those of an array, as far as they are needed."""
    if known.size >= FEWEST_VALUES:
        return known
    some = np.union1d(known, values[:: max(1, values.size // 4096)])
    return some if some.size >= FEWEST_VALUES else np.union1d(some, values)


def _shown_affine(grid: VolumeGrid, index: int) -> tuple[float, ...]:
    """Row-major 3 x 4 matrix from (column, row, slices after this one, 1) to LPS in mm, see `Image.affine`.

    The shown column and row run against the turned axes of the plane.
    """
    first, second = grid.plane
    to_index = np.zeros((4, 4))
    to_index[first] = (-1, 0, 0, grid.shape[first] - 1)
    to_index[second] = (0, -1, 0, grid.shape[second] - 1)
    to_index[grid.axis] = (0, 0, 1, index)
    to_index[3, 3] = 1
    shown = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine @ to_index
    return tuple(float(value) for value in shown[:3].ravel())


def _slice_axis(shape: list[int], spacing: list[float]) -> int:
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    order = sorted(range(3), key=lambda axis: spacing[axis])
    return order[2] if spacing[order[2]] >= THICK * spacing[order[1]] else 2
