"""HTJ2K (ISO/IEC 15444-15), lossless, one tile-part per resolution so that a byte prefix is a smaller image.

The decoder returns wrong pixels without an error when a bit is flipped: callers check a crc32 first.
Only int16 is encoded: a reduced-resolution decode of unsigned data wraps below zero.
"""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

CODEC = "htj2k"
LEVELS = 3
"""Prefixes are recorded for 1/2, 1/4 and 1/8 resolution (levels 1, 2, 3); level 0 is the whole codestream."""

_START_OF_SIZE = b"\xff\x4f\xff\x51"
_SIZE = struct.Struct(">8x8IH")
"""Behind the marker, its length and the profile."""
_START_OF_TILE_PART = 0xFF90
_START_OF_DATA_LENGTH = 12


def encode(pixels: npt.NDArray[np.int16]) -> bytes:
    """Encode int16 [row, column] and verify that the codestream decodes to the same pixels.

    Raises:
        ValueError: if the pixels are not int16, or do not survive the round trip.
    """
    if pixels.dtype != np.int16:
        raise ValueError(f"the codec stores int16 pixels, not {pixels.dtype}")
    data = bytes(
        imagecodecs.htj2k_encode(np.ascontiguousarray(pixels), tilepart=imagecodecs.HTJ2K.TILEPART.RESOLUTIONS)
    )
    if not np.array_equal(decode(data), pixels):
        raise ValueError("the HTJ2K codestream does not decode to the pixels that were encoded")
    return data


def decode(data: Any, level: int = 0, out: npt.NDArray[np.int16] | None = None) -> npt.NDArray[np.int16]:
    """Decode a codestream, or the prefix of one that belongs to `level`, to int16 [row, column] / 2^level.

    data: bytes, or a memoryview of them. out: memory of that shape to decode into.
    """
    pixels = (
        imagecodecs.htj2k_decode(data, skipres=level, out=out) if level else imagecodecs.htj2k_decode(data, out=out)
    )
    return np.asarray(pixels, dtype=np.int16)


def announced_shape(data: bytes | memoryview) -> tuple[int, int] | None:
    """(rows, columns) that a codestream announces at full resolution, read before the decoder makes room for them.

    None if it is not of one component and one tile, as `encode` writes it. The marker is SIZ (ISO/IEC 15444-1, A.5.1).
    """
    if len(data) < _SIZE.size or bytes(data[:4]) != _START_OF_SIZE:
        return None
    columns, rows, left, top, tile_columns, tile_rows, tile_left, tile_top, components = _SIZE.unpack_from(data)
    if (left, top, tile_left, tile_top, components) != (0, 0, 0, 0, 1) or tile_columns < columns or tile_rows < rows:
        return None
    return rows, columns


def prefix_lengths(data: bytes) -> tuple[int, ...]:
    """Bytes needed for levels 1, 2, 3: where the tile-part of each dropped resolution begins.

    Raises:
        ValueError: if the codestream has fewer tile-parts than levels, or a malformed one.
    """
    starts = []
    position = _first_tile_part(data)
    while position + _START_OF_DATA_LENGTH <= len(data):
        marker, _, _, length = struct.unpack_from(">HHHI", data, position)
        if marker != _START_OF_TILE_PART:
            break
        starts.append(position)
        position += length if length else len(data)
    if len(starts) <= LEVELS:
        raise ValueError(f"the codestream has {len(starts)} tile-parts; {LEVELS + 1} or more are needed")
    return tuple(starts[-level] for level in range(1, LEVELS + 1))


def _first_tile_part(data: bytes) -> int:
    """Skip the main header: SOC, then marker segments that give their own length."""
    position = 2
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == _START_OF_TILE_PART:
            return position
        position += 2 + length
    raise ValueError("the codestream has no tile-part")
