"""The size that a compressed frame announces itself, read before a decoder makes room for it.

JPEG (ITU-T T.81 B.2.2) and JPEG-LS (T.87 C.2.2): the frame header SOF. JPEG 2000 (T.800 A.5.1, I.4): the marker SIZ.
"""

from __future__ import annotations

from scoutview.ingest.refusals import RefusedError

_START_OF_SCAN = 0xDA
_HUFFMAN_TABLES, _LOSSLESS = 0xC4, 0xC3
_START_OF_TILE_PART = b"\xff\x90"
_MOST_TILES = 65535
_CODING_STYLE, _QUANTISATION = 0x52, 0x5C
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
    _check_segments(frame, begin)
    length = int.from_bytes(frame[begin + 4 : begin + 6], "big")
    return _of_jpeg_2000(frame[begin + 4 : begin + 4 + length])


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
    seen: set[int] = set()
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
        length = int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker == _HUFFMAN_TABLES:
            _check_tables(frame[place + 4 : place + 2 + length])
        seen.add(marker)
        place += 2 + length
    if _LOSSLESS in seen and _HUFFMAN_TABLES not in seen:  # the decoder takes what its memory holds
        raise RefusedError("decode_error", "the JPEG header has no Huffman table")
    if len(found) != 1 or 0 in next(iter(found)):
        raise RefusedError("decode_error", "the JPEG header does not say its size, or says two")
    return found.pop()


def _check_tables(segment: bytes) -> None:
    """Refuse Huffman tables that do not fill their segment (T.81 B.2.4.2).

    Raises:
        RefusedError: decode_error.
    """
    place = 0
    while place < len(segment):
        place += 17 + sum(segment[place + 1 : place + 17])
    if place != len(segment) or not segment:
        raise RefusedError("decode_error", "a Huffman table of the JPEG header is cut")


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


def _check_segments(frame: bytes, begin: int) -> None:
    """Walk the main header and the tile-parts (T.800 A.3, A.4, A.6): decoders read past segments that are cut.

    Raises:
        RefusedError: decode_error.
    """
    segments: dict[int, bytes] = {}
    place = begin + 2
    while frame[place : place + 2] != _START_OF_TILE_PART:
        length = int.from_bytes(frame[place + 2 : place + 4], "big")
        if frame[place : place + 1] != b"\xff" or length < 2 or place + length + 2 > len(frame):
            raise RefusedError("decode_error", "a segment of the JPEG 2000 header is not where it should be")
        segments[frame[place + 1]] = frame[place + 4 : place + 2 + length]
        place += 2 + length
    style, quantisation = segments.get(_CODING_STYLE, b""), segments.get(_QUANTISATION, b"")
    if len(style) < 10 or not quantisation or style[5] > 32:
        raise RefusedError("decode_error", "the JPEG 2000 header does not say how it is coded")
    layers, levels, width, height = int.from_bytes(style[2:4], "big"), style[5], style[6], style[7]
    precincts = len(style) - 10 == (levels + 1 if style[0] & 1 else 0)
    if layers == 0 or style[1] > 4 or style[9] > 1 or max(width, height) > 8 or width + height > 8 or not precincts:
        raise RefusedError("decode_error", "the JPEG 2000 header asks for a coding that does not exist")
    bands = 3 * levels + 1
    if len(quantisation) - 1 < {0: bands, 1: 2, 2: 2 * bands}.get(quantisation[0] & 31, 2**16):
        raise RefusedError("decode_error", "the JPEG 2000 header does not quantise every band")
    while frame[place : place + 2] == _START_OF_TILE_PART:
        length = int.from_bytes(frame[place + 6 : place + 10], "big")
        if length == 0:  # the last one may end where the codestream does
            return
        if length < 14 or place + length > len(frame):
            raise RefusedError("decode_error", "a tile-part of the JPEG 2000 codestream is cut")
        place += length
    if frame[place : place + 2] != b"\xff\xd9":
        raise RefusedError("decode_error", "the JPEG 2000 codestream does not end behind its tile-parts")


def _of_jpeg_2000(size: bytes) -> tuple[int, int, int]:
    """The size in the marker segment SIZ, from its length on (T.800 table A.9); what it allows is checked."""
    numbers = [int.from_bytes(size[place : place + 4], "big") for place in range(4, 36, 4)]
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = numbers
    components = int.from_bytes(size[36:38], "big")
    per_component = [size[place : place + 3] for place in range(38, len(size), 3)]
    placed = tile_left <= left < tile_left + tile_width and tile_top <= top < tile_top + tile_height
    if right <= left or bottom <= top or not placed:
        raise RefusedError("decode_error", "the JPEG 2000 header does not say its size")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if not 0 < tiles <= _MOST_TILES or components == 0 or len(size) != 38 + 3 * components:
        raise RefusedError("decode_error", "the JPEG 2000 header has too many tiles or components")
    if any(part[0] & 0x7F > 31 or part[1:] != b"\1\1" for part in per_component):
        raise RefusedError("decode_error", "the JPEG 2000 components are deeper than 32 bits or subsampled")
    return bottom - top, right - left, components
