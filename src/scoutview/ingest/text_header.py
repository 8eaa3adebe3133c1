"""What MetaImage and NRRD have in common: a header of text, and voxels after it or in a file beside it.

Read here and not by ITK, which returns other pixels without an error where compressed data are damaged.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from scoutview.ingest.inflating import GZIP, ZLIB, inflate
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.voxels import Voxels

LONGEST_HEADER = 2**20
"""Bytes."""


@dataclass(frozen=True)
class Stored:
    """What a header says. voxels: their stream is the file of the header until `open_voxels` is through.

    data_file: "" where the voxels follow the header; skipped: bytes before them in their file, -1 when they end it.
    """

    voxels: Voxels
    packing: Literal["", "zlib", "gzip"]
    data_file: str
    skipped: int


def open_voxels(path: Path, parse: Callable[[IO[bytes]], Stored]) -> Voxels:
    """The voxels that a header describes; the caller closes their stream.

    parse: reads the header from the beginning of a stream and leaves the stream behind it.

    Raises:
        RefusedError: with the reason code.
    """
    try:
        stream: IO[bytes] = path.open("rb")
        try:
            stored = parse(stream)
            if stored.data_file:
                beside = _beside(path, stored.data_file)
                stream.close()
                stream = beside.open("rb")
            return _opened(stream, stored)
        except BaseException:
            stream.close()
            raise
    except OSError as error:
        raise RefusedError("unreadable", "the file cannot be read or inflated") from error


def _opened(stream: IO[bytes], stored: Stored) -> Voxels:
    voxels = stored.voxels
    begin = stream.tell()
    size = stream.seek(0, 2)
    if stored.packing:
        stream.seek(begin + max(stored.skipped, 0))
        with stream:
            wrapping = ZLIB if stored.packing == "zlib" else GZIP
            inflated = inflate(stream, wrapping, voxels.nbytes, voxels.nbytes)
        return replace(voxels, stream=inflated, begin=0)
    first = size - voxels.nbytes if stored.skipped < 0 else begin + stored.skipped
    if first < begin or first + voxels.nbytes > size:
        raise RefusedError("truncated", "fewer voxels than the header says")
    return replace(voxels, stream=stream, begin=first)


def _beside(path: Path, name: str) -> Path:
    """The file of that name in the folder of a header; no path is followed, and no link."""
    plain = name not in (".", "..") and not any(mark in name for mark in "/\\%\0") and name.isprintable()
    if not plain or name.upper().startswith("LIST"):
        raise RefusedError("unsupported_format", "its voxels are in several files or another folder: write one file")
    beside = path.parent / name
    try:
        regular = stat.S_ISREG(beside.lstat().st_mode)
    except OSError:
        regular = False
    if not regular:
        raise RefusedError("unsupported_format", "the file of its voxels is not beside it: write one file")
    return beside


def numbers_in(text: str, count: int, field: str) -> list[float]:
    """`count` finite numbers that stand in a text between blanks.

    Raises:
        RefusedError: bad_header, naming the field.
    """
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise RefusedError("bad_header", f"{field} is not {count} numbers")
    return numbers


def integers_in(text: str, field: str) -> list[int]:
    """Whole numbers that stand in a text between blanks.

    Raises:
        RefusedError: bad_header, naming the field.
    """
    words: Sequence[str] = text.split()
    if not words or not all(word.removeprefix("-").isdecimal() and len(word) < 20 for word in words):
        raise RefusedError("bad_header", f"{field} is not whole numbers")
    return [int(word) for word in words]
