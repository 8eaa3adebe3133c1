"""The size that a compressed frame announces itself, read before a decoder makes room for it.

JPEG (ITU-T T.81 B.2.2) and JPEG-LS (T.87 C.2.2): the frame header SOF. JPEG 2000 (T.800 A.5.1, I.4): the marker SIZ.
"""

from __future__ import annotations

from scoutview.ingest.refusals import RefusedError

_START_OF_SCAN = 0xDA
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def announced(frame: bytes) -> tuple[int, int, int]:
    """(rows, columns, components) of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K codestream.

    Raises:
        RefusedError: decode_error when it does not say so, or says so twice.
    """
    if frame.startswith(b"\xff\xd8"):
        return _of_jpeg(frame)
    begin = _codestream(frame)
    return _of_jpeg_2000(frame[begin : begin + 64])


def check_announced(frame: bytes, expected: tuple[int, ...]) -> None:
    """Refuse a codestream that is not of the expected size ([row, column] or [row, column, sample]).

    Raises:
        RefusedError: decode_error.
    """
    rows, columns, components = announced(frame)
    found = (rows, columns) if components == 1 else (rows, columns, components)
    if found != expected:
        raise RefusedError("decode_error", f"the codestream holds {found}, the header says {expected}")


def _of_jpeg(frame: bytes) -> tuple[int, int, int]:
    found: set[tuple[int, int, int]] = set()
    place = 2
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            raise RefusedError("decode_error", "bytes between the segments of the JPEG header")
        marker = frame[place + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            place += 1
            continue
        if marker in _ALONE:
            place += 2
            continue
        if marker == _START_OF_SCAN:
            break
        if marker in _FRAME_HEADERS:
            segment = frame[place + 4 : place + 10]
            sizes = (segment[1:3], segment[3:5], segment[5:6])
            rows, columns, components = (int.from_bytes(size, "big") for size in sizes)
            found.add((rows, columns, components))
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    if len(found) != 1 or 0 in next(iter(found)):
        raise RefusedError("decode_error", "the JPEG header does not say its size, or says two")
    return found.pop()


def _codestream(frame: bytes) -> int:
    """Where the codestream begins; some writers put it into the boxes of a file format."""
    place = 0
    while frame[place : place + 4] != b"\xff\x4f\xff\x51":
        length = int.from_bytes(frame[place : place + 4], "big")
        kind = frame[place + 4 : place + 8]
        head = 8
        if length == 1:
            length, head = int.from_bytes(frame[place + 8 : place + 16], "big"), 16
        if kind == b"jp2c":
            length = head
        if length < head or place + length >= len(frame):
            raise RefusedError("decode_error", "there is no JPEG 2000 codestream")
        place += length
    return place


def _of_jpeg_2000(head: bytes) -> tuple[int, int, int]:
    right, bottom, left, top = (int.from_bytes(head[place : place + 4], "big") for place in (8, 12, 16, 20))
    components = int.from_bytes(head[40:42], "big")
    if len(head) < 42 or right <= left or bottom <= top or components == 0:
        raise RefusedError("decode_error", "the JPEG 2000 header does not say its size")
    return bottom - top, right - left, components
