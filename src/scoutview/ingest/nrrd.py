"""NRRD files (.nrrd, .nhdr): https://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import re
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
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE_OF = {name: kind for kind, names in _TYPES.items() for name in names}
_TO_RAS = {"right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1), "left-anterior-superior": (-1, 1, 1),
           "las": (-1, 1, 1), "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1)}  # fmt: skip
_FIELDS = frozenset({
    "dimension", "type", "block size", "blocksize", "encoding", "endian", "content", "min", "max", "old min", "oldmin",
    "old max", "oldmax", "data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip", "number",
    "sample units", "sampleunits", "sizes", "spacings", "thicknesses", "axis mins", "axismins", "axis maxs", "axismaxs",
    "centers", "centerings", "labels", "units", "kinds", "space", "space dimension", "space units", "space origin",
    "space directions", "measurement frame",
})  # fmt: skip
"""All that the format knows: another name is a damaged one."""
_KINDS = ("domain", "space", "time", "list", "point", "vector", "none", "???")
_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "")


def read_nrrd(path: Path, modality: Modality, name: str, rules: Rules) -> Iterator[Indexed]:
    """The slices of a NRRD file of three or four dimensions, see `images_of`.

    Raises:
        RefusedError: with the reason code.
    """
    voxels = open_voxels(path, _described)
    with voxels.stream:
        yield from images_of(voxels, modality, name, rules, "nrrd")


def _described(stream: IO[bytes]) -> Stored:
    """What the header says; the stream is left at the first byte behind it."""
    fields = _fields(stream)
    kind = _TYPE_OF.get(fields.get("type", "").lower())
    if kind is None:
        raise RefusedError("bits", "type is missing or none of a single number")
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and kind[1] != "1":
        raise RefusedError("bad_header", "endian is neither little nor big")
    dtype = np.dtype((">" if endian == "big" else "<") + kind)
    sizes = integers_in(fields.get("sizes", ""), "sizes")
    if integers_in(fields.get("dimension", ""), "dimension") != [len(sizes)]:
        raise RefusedError("bad_header", "sizes and dimension contradict each other")
    shape, count = check_shape(tuple(sizes), dtype)
    affine = _affine(fields, len(sizes))
    packing = _packing(fields.get("encoding", "").lower())
    (lines,) = integers_in(fields.get("line skip", "0"), "line skip")[:1]
    (skipped,) = integers_in(fields.get("byte skip", "0"), "byte skip")[:1]
    if lines or (packing and skipped):
        raise RefusedError("unsupported_format", "lines or compressed bytes to be skipped: write one .nrrd file")
    voxels = Voxels(stream, 0, shape, count, dtype, 1.0, 0.0, affine)
    return Stored(voxels, packing, fields.get("data file", ""), max(skipped, -1))


def _fields(stream: IO[bytes]) -> dict[str, str]:
    """The fields of the header by name, up to the empty line, or the end of a file that names another."""
    fields: dict[str, str] = {}
    if not re.fullmatch(rb"NRRD000\d\r?\n", stream.readline(20)):
        raise RefusedError("bad_header", "the first line is malformed")
    left = LONGEST_HEADER
    while left > 0:
        line = stream.readline(left)
        left -= len(line)
        text = line.decode("utf-8", "replace").strip()
        if not text and (line or "data file" in fields):
            return fields
        if not line:
            break
        if text.startswith("#"):
            continue
        name, mark, value = re.match(r"([^:]*)(:=|: ?|$)(.*)", text, re.S).groups()  # type: ignore[union-attr]
        if mark == ":=":
            continue
        if not (mark and name in _FIELDS and value.isprintable()):
            raise RefusedError("bad_header", "a line of the header is malformed")
        name = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}.get(name, name)
        if name in fields:
            raise RefusedError("bad_header", "a field of the header is repeated")
        fields[name] = value.strip()
    raise RefusedError("truncated", "the header does not end")


def _packing(encoding: str) -> Literal["", "gzip"]:
    if encoding == "raw":
        return ""
    if encoding in ("gz", "gzip"):
        return "gzip"
    raise RefusedError("unsupported_format", "an encoding that is neither raw nor gzip")


def _affine(fields: Mapping[str, str], dimensions: int) -> npt.NDArray[np.float64]:
    """From voxels to RAS in mm.

    Raises:
        RefusedError: no_orientation, four_dimensional, color or bad_header.
    """
    signs = _TO_RAS.get(fields.get("space", "").lower())
    directions = re.findall(r"none|\([^)]*\)", fields.get("space directions", "").lower())
    if signs is None or dimensions < 3:
        raise RefusedError("no_orientation", "space is none of RAS, LAS and LPS, or there are two dimensions")
    if len(directions) != dimensions:
        raise RefusedError("no_orientation", "space directions are not one per dimension")
    kinds = fields.get("kinds", "domain " * dimensions).lower().split()
    if any("color" in kind for kind in kinds):
        raise RefusedError("color", "several channels per voxel")
    if len(kinds) != dimensions or any(kind not in _KINDS for kind in kinds):
        raise RefusedError("bad_header", "kinds are not one of space or a list per dimension")
    if "none" in directions[:3] or any(direction != "none" for direction in directions[3:]):
        raise RefusedError("four_dimensional", "its first three dimensions are not those of space")
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    if any(unit.lower() not in _MILLIMETRES for unit in units):
        raise RefusedError("bad_header", "space units are not mm")
    affine = np.eye(4)
    for axis, direction in enumerate(directions[:3]):
        affine[:3, axis] = _vector(direction, "space directions")
    affine[:3, 3] = _vector(fields.get("space origin", "(0,0,0)"), "space origin")
    check_affine(affine)
    return np.diag([*signs, 1.0]) @ affine


def _vector(text: str, field: str) -> list[float]:
    return numbers_in(text.strip().removeprefix("(").removesuffix(")").replace(",", " "), 3, field)
