"""MetaImage files (.mha, .mhd): https://itk.org/Wiki/ITK/MetaIO/Documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from scoutview.images import Modality
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules
from scoutview.ingest.text_header import LONGEST_HEADER, Stored, integers_in, numbers_in, open_voxels
from scoutview.ingest.volume_slices import Indexed, images_of
from scoutview.ingest.voxels import Voxels, check_affine, check_shape

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_LAST = "ElementDataFile"


def read_metaimage(path: Path, modality: Modality, name: str, rules: Rules) -> Iterator[Indexed]:
    """The slices of a MetaImage of three or four dimensions, see `images_of`.

    Raises:
        RefusedError: with the reason code.
    """
    voxels = open_voxels(path, _described)
    with voxels.stream:
        yield from images_of(voxels, modality, name, rules, "metaimage")


def _described(stream: IO[bytes]) -> Stored:
    """What the header says; the stream is left at the first byte behind it."""
    fields = _fields(stream)
    if _is_true(fields, "BinaryData", "True") is False:
        raise RefusedError("unsupported_format", "voxels written as text: write them as binary data")
    for field, neutral in (("ElementToIntensityFunctionSlope", 1), ("ElementToIntensityFunctionOffset", 0)):
        if field in fields and numbers_in(fields[field], 1, field) != [neutral]:
            raise RefusedError("bad_header", f"{field}, which some readers apply and others do not")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise RefusedError("color", "several channels per voxel")
    kind = _TYPES.get(fields.get("ElementType", ""))
    if kind is None:
        raise RefusedError("bits", "ElementType is missing or none of a single number")
    largest_first = _is_true(fields, "BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    dtype = np.dtype((">" if largest_first else "<") + kind)
    sizes = integers_in(fields.get("DimSize", ""), "DimSize")
    if integers_in(fields.get("NDims", ""), "NDims") != [len(sizes)]:
        raise RefusedError("bad_header", "DimSize and NDims contradict each other")
    shape, count = check_shape(tuple(sizes), dtype)
    affine = _affine(fields, len(sizes))
    data_file = fields[_LAST]
    (skipped,) = integers_in(fields.get("HeaderSize", "0"), "HeaderSize")[:1]
    packing: Literal["", "zlib"] = "zlib" if _is_true(fields, "CompressedData", "False") else ""
    if packing:  # without it, readers disagree on where the voxels begin
        integers_in(fields.get("CompressedDataSize", ""), "CompressedDataSize")
    voxels = Voxels(stream, 0, shape, count, dtype, 1.0, 0.0, affine)
    local = data_file.upper() == "LOCAL"
    return Stored(voxels, packing, "" if local else data_file, 0 if local else max(skipped, -1))


def _fields(stream: IO[bytes]) -> dict[str, str]:
    """The fields of the header by name, up to the last, after which the voxels begin."""
    fields: dict[str, str] = {}
    left = LONGEST_HEADER
    while left > 0 and (line := stream.readline(left)):
        left -= len(line)
        try:
            name, mark, value = line.decode("ascii").partition("=")
        except UnicodeDecodeError as error:
            raise RefusedError("bad_header", "the header is not text") from error
        name, value = name.strip(), value.strip()
        if not mark or name in fields:
            raise RefusedError("bad_header", "a line of the header is malformed, or repeats a field")
        fields[name] = value
        if name == _LAST:
            return fields
    raise RefusedError("truncated", f"the header ends without {_LAST}")


def _is_true(fields: Mapping[str, str], field: str, default: str) -> bool:
    value = fields.get(field, default).lower()
    if value not in ("true", "false", "1", "0"):
        raise RefusedError("bad_header", f"{field} is neither True nor False")
    return value in ("true", "1")


def _affine(fields: Mapping[str, str], dimensions: int) -> npt.NDArray[np.float64]:
    """From voxels to RAS in mm. Every row of the matrix in the file is the direction of an axis, in LPS."""
    matrix = next((fields[name] for name in ("TransformMatrix", "Rotation", "Orientation") if name in fields), None)
    if dimensions < 3 or matrix is None:
        raise RefusedError("no_orientation", "there is no TransformMatrix of three dimensions")
    directions = np.reshape(numbers_in(matrix, dimensions**2, "TransformMatrix"), (dimensions, dimensions))
    if directions[3:, :3].any() or directions[:3, 3:].any():
        raise RefusedError("bad_header", "TransformMatrix mixes time with space")
    spacing = fields.get("ElementSpacing", fields.get("ElementSize", ""))
    origin = next((fields[name] for name in ("Offset", "Position", "Origin") if name in fields), "")
    lengths = numbers_in(spacing, dimensions, "ElementSpacing")[:3]
    if min(lengths) <= 0:
        raise RefusedError("bad_header", "ElementSpacing is not positive")
    affine = np.eye(4)
    affine[:3, :3] = directions[:3, :3].T * lengths
    affine[:3, 3] = numbers_in(origin, dimensions, "Offset")[:3]
    check_affine(affine)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
