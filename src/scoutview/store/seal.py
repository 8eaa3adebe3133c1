"""A checksum over a whole file, within it: of Parquet, whose page checksums leave out headers and footer, and of JSON.

The seal of a Parquet file lies between the last page and the footer, where readers of Parquet do not look: 4 bytes of
magic, the crc32 of what is before it, the crc32 of what is behind it. A file of another writer has none.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from scoutview.files import finite

_SEAL = struct.Struct("<4sII")
_MAGIC = b"SVC1"
_TAIL = struct.Struct("<I4s")
_CHUNK = 2**24


def seal(path: Path) -> None:
    """Put the seal into a Parquet file that was just written."""
    with path.open("r+b") as stream:
        seal_stream(stream)


def seal_stream(stream: BinaryIO) -> None:
    """The same for an open one."""
    begin, footer = _footer(stream, stream.seek(0, os.SEEK_END))
    stream.seek(0)
    pages = _crc(stream, begin)
    stream.seek(begin)
    stream.write(_SEAL.pack(_MAGIC, pages, zlib.crc32(footer)) + footer)


def verify(path: Path, sealed: bool = False) -> None:
    """Read a Parquet file once and compare its seal, if it has one; a file that has not changed is not read again.

    sealed: it must have one, which also finds damage to the seal's magic and to the length of the footer.

    Raises:
        OSError: if the file is missing, is no Parquet file, or is not as it was written.
    """
    state = path.stat()
    _verify(path, sealed, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _verify(path: Path, sealed: bool, size: int, modified: int, inode: int) -> None:
    with path.open("rb") as stream:
        verify_stream(stream, size, sealed)


def verify_stream(stream: BinaryIO, size: int, sealed: bool = False) -> None:
    """Compare the seal of an open Parquet file of `size` bytes; `sealed` says that it must have one.

    Raises:
        OSError: if it is no Parquet file, or not as it was written.
    """
    begin, footer = _footer(stream, size)
    stream.seek(max(begin - _SEAL.size, 0))
    magic, pages, behind = _SEAL.unpack(stream.read(_SEAL.size).ljust(_SEAL.size))
    if magic != _MAGIC:
        if sealed:
            raise OSError("it has no seal")
        return
    stream.seek(0)
    if zlib.crc32(footer) != behind or _crc(stream, begin - _SEAL.size) != pages:
        raise OSError("its checksum differs from what was written")


def _footer(stream: BinaryIO, size: int) -> tuple[int, bytes]:
    """(where the footer begins, the footer with its length and the closing magic)."""
    if size < _TAIL.size:
        raise OSError(f"{size} bytes are no Parquet file")
    stream.seek(size - _TAIL.size)
    length, magic = _TAIL.unpack(stream.read(_TAIL.size))
    begin = size - _TAIL.size - length
    if magic != b"PAR1" or begin < 0:
        raise OSError("it does not end as a Parquet file does")
    stream.seek(begin)
    return begin, stream.read(length + _TAIL.size)


def _crc(stream: BinaryIO, length: int) -> int:
    crc = 0
    while length:
        part = stream.read(min(_CHUNK, length))
        if not part:
            raise OSError(os.strerror(5))
        crc = zlib.crc32(part, crc)
        length -= len(part)
    return crc


def with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a JSON file with the crc32 of its other entries."""
    return {**content, "checksum": _json_crc(content)}


def checksum_fits(content: dict[str, Any]) -> bool:
    """Whether a JSON file is as `with_checksum` made it; one without a checksum is believed."""
    return "checksum" not in content or content["checksum"] == _json_crc(content)


def _json_crc(content: dict[str, Any]) -> int:
    others = {key: value for key, value in content.items() if key != "checksum"}
    return zlib.crc32(json.dumps(finite(others), sort_keys=True).encode())
