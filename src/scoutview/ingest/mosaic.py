"""Siemens mosaics: the slices of a volume as tiles of one picture, with their number and normal in a private header.

The Image Position of a mosaic is that of a slice of the mosaic's size; the tiles' own lies half the difference of
the sizes further inwards.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.tag import Tag

from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.dicom_pixels import PixelFormat
from scoutview.ingest.limits import check_size
from scoutview.ingest.planes import slice_header
from scoutview.ingest.refusals import RefusedError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls its DICOM readers unstable; this one only parses
    from nibabel.nicom import csareader

_CSA_IMAGE = Tag(0x0029, 0x1010)
_CREATOR = Tag(0x0029, 0x0010)


def is_mosaic(header: Any) -> bool:
    """Whether Image Type says so."""
    return "MOSAIC" in header_of.words_of(header, "ImageType")


def tiles_of(
    path: Path, header: Any, form: PixelFormat
) -> tuple[list[Any], Callable[[npt.NDArray[Any], int], npt.NDArray[Any]]]:
    """(header of each slice, function that cuts slice `number` out of the mosaic [row, column]).

    Raises:
        RefusedError: mosaic when the private header does not describe the tiles.
    """
    count, normal = _described(path)
    side = math.ceil(math.sqrt(count))
    rows, columns = form.rows // side, form.columns // side
    if rows * side != form.rows or columns * side != form.columns:
        raise RefusedError("mosaic", f"{form.rows} x {form.columns} px do not hold {side} x {side} tiles")
    check_size(rows, columns)
    plane = slice_header(header).plane
    spacing = header_of.numbers_of(header, "SpacingBetweenSlices", 1)
    if plane is None or not spacing or spacing[0] <= 0:
        raise RefusedError("mosaic", "the position, orientation or spacing of the slices is missing")
    if abs(abs(float(np.dot(normal, plane.normal))) - 1) > 1e-2:
        raise RefusedError("mosaic", "the normal of the slices is not that of their orientation")
    first = (
        np.asarray(plane.position)
        + np.multiply(plane.down, plane.spacing[0] * (form.rows - rows) / 2)
        + np.multiply(plane.across, plane.spacing[1] * (form.columns - columns) / 2)
    )
    headers = []
    for number in range(count):
        position = [float(value) for value in first + np.multiply(normal, number * spacing[0])]
        values = {"Rows": rows, "Columns": columns, "InstanceNumber": number + 1, "ImagePositionPatient": position}
        headers.append(header_of.overlaid(header, values))

    def cut(stored: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
        down, across = divmod(number, side)
        return stored[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns]

    return headers, cut


def _described(path: Path) -> tuple[int, tuple[float, float, float]]:
    """(number of slices, their normal) from the CSA image header."""
    header = header_of.read_header(path, (_CREATOR, _CSA_IMAGE))
    try:
        tags = csareader.read(bytes(header[_CSA_IMAGE].value))["tags"]
        (count,) = tags["NumberOfImagesInMosaic"]["items"][:1]
        x, y, z = (float(value) for value in tags["SliceNormalVector"]["items"][:3])
        number = int(count)
    except Exception as error:  # the private format has no specification, and nibabel raises many kinds of errors
        raise RefusedError("mosaic", "the private header of the tiles is missing or malformed") from error
    if number < 1 or not all(math.isfinite(value) for value in (x, y, z)):
        raise RefusedError("mosaic", "the private header of the tiles is malformed")
    return number, (x, y, z)
