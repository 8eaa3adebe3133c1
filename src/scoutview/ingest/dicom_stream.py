"""A DICOM file as a stream; the deflated transfer syntax is inflated first, up to a bound (PS3.5 A.5, PS3.10 7.1)."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from scoutview.ingest.inflating import DEFLATE, inflate

MOST_INFLATED = 2**28
"""Bytes of a deflated data set: the largest image in 32 bits, and as much again."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_INFLATED = b"1.2.840.10008.1.2.1"
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN")
_META = 132
"""Where the file meta group begins."""


def open_dicom(path: Path) -> IO[bytes]:
    """The file, closed by the caller; a deflated data set is inflated, and says that it is not deflated.

    Raises:
        RefusedError: too_large when it inflates beyond the bound, truncated or decode_error when it is damaged.
        OSError: it cannot be read.
    """
    stream: IO[bytes] = path.open("rb")
    try:
        begin = _begin_of_deflated(stream)
        stream.seek(0)
        if begin is None:
            return stream
        with stream:
            head = stream.read(begin).replace(_DEFLATED, _INFLATED.ljust(len(_DEFLATED), b"\0"))
            return inflate(stream, DEFLATE, 0, MOST_INFLATED, head)
    except BaseException:
        stream.close()
        raise


def is_deflated(path: Path) -> bool:
    """Whether a file is of the deflated transfer syntax.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return _begin_of_deflated(stream) is not None


def _begin_of_deflated(stream: IO[bytes]) -> int | None:
    """Where the deflated data begin, behind the file meta group; None when nothing is deflated."""
    stream.seek(_META)
    deflated = False
    while True:
        place = stream.tell()
        head = stream.read(8)
        if len(head) < 8 or head[:2] != b"\2\0":
            return place if deflated else None
        if head[4:6] in _LONG:
            length = int.from_bytes(stream.read(4), "little")
        else:
            length = int.from_bytes(head[6:8], "little")
        if head[2:4] == b"\x10\0":
            deflated = stream.read(min(length, 64)).rstrip(b"\0 ") == _DEFLATED
            stream.seek(max(0, length - 64), 1)
        else:
            stream.seek(length, 1)
