"""Label volumes in NIfTI -> masks per slice, in the order and orientation in which ingest stores the image volume.

The seam to volumes: `slices_of` numbers slices as `read_nifti` does. What stores volumes otherwise changes both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from scoutview.errors import UsageError
from scoutview.ingest.nifti import open_nifti
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.volume_slices import VolumeGrid, shown_slices
from scoutview.ingest.voxels import Voxels

Grid = tuple[tuple[int, ...], npt.NDArray[np.float64]]


def slices_of(path: Path, image: Path | None = None) -> Iterator[tuple[int, dict[int, npt.NDArray[np.bool_]]]]:
    """(slice index, value -> bitmap [row, column]) of every slice that is not 0 throughout.

    image: the volume that the masks are about, where it is on disk: both must lie on one grid. Flipped or swapped
    axes are no other grid; another spacing, origin or shape is.

    Raises:
        UsageError: it cannot be read, holds fractions, or lies on another grid than the image.
    """
    try:
        voxels = open_nifti(path)
        with voxels.stream:
            if voxels.count > 1:
                raise RefusedError("four_dimensional", "several volumes")
            grid = VolumeGrid.of(voxels.shape, voxels.affine)
            if image is not None:
                check_grid(path, image)
            _check_whole(path, voxels)
            for index, stored in enumerate(shown_slices(voxels, grid)):
                values = _physical(stored, voxels).astype(np.int64)
                if values.any():
                    yield index, {int(value): values == value for value in np.unique(values) if value}
    except RefusedError as error:
        raise UsageError(
            f"the mask {path} cannot be taken ({error}): write a 3D NIfTI file of whole numbers"
        ) from error


def _check_whole(path: Path, voxels: Voxels) -> None:
    for block in voxels.blocks():
        values = _physical(block, voxels)
        if not np.array_equal(np.rint(values), values):
            raise UsageError(f"the mask {path} holds fractions: write whole numbers, 0 where there is nothing")


def _physical(stored: npt.NDArray[Any], voxels: Voxels) -> npt.NDArray[Any]:
    return stored * abs(voxels.slope) + voxels.offset if (voxels.slope, voxels.offset) != (1.0, 0.0) else stored


def check_grid(path: Path, image: Path) -> None:
    """Make sure, from their headers alone, that a mask lies on the grid of an image.

    Raises:
        UsageError: it does not, or one cannot be read.
    """
    if not _same(_grid(_header(path)), _grid(_header(image))):
        raise UsageError(
            f"the mask {path} lies on another grid (shape or affine) than {image}: resample it to the image's grid"
        )


def _header(path: Path) -> Any:
    try:
        return nib.load(path)
    except (OSError, ImageFileError) as error:
        raise UsageError(f"{path} cannot be read as NIfTI ({error}): restore it") from error


def _grid(volume: Any) -> Grid:
    """Shape and affine with the axes turned to right, anterior, superior."""
    shape = (*volume.shape, 1, 1)[:3]
    orientation = nib.io_orientation(volume.affine)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, shape)
    turned = [0, 0, 0]
    for source, target in enumerate(orientation[:, 0].astype(int)):
        turned[target] = shape[source]
    return tuple(turned), affine


def _same(one: Grid, other: Grid) -> bool:
    """Within a hundredth of a millimetre at the origin, a thousandth per voxel: headers are rounded by tools."""
    (shape, affine), (other_shape, other_affine) = one, other
    moved = np.abs(affine - other_affine)
    return shape == other_shape and bool((moved[:3, :3] < 1e-3).all() and (moved[:3, 3] < 1e-2).all())
