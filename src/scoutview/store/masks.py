"""Masks in a column of bytes: a bitmap, cut to its bounding box, packed to bits and compressed."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Rectangle = tuple[int, int, int, int]


def encode_mask(bitmap: npt.NDArray[np.bool_]) -> tuple[Rectangle, bytes]:
    """((x, y, width, height) in px of the set pixels, bytes) of a bitmap [row, column].

    The bytes are the rows of that rectangle one after the other, 8 pixels to a byte with the first in the highest
    bit, compressed by zlib.

    Raises:
        ValueError: if no pixel is set.
    """
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if not rows.size:
        raise ValueError("the mask is empty")
    y, x = int(rows[0]), int(columns[0])
    cut = bitmap[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1]
    return (x, y, cut.shape[1], cut.shape[0]), zlib.compress(np.packbits(cut).tobytes(), 6)


def decode_mask(mask: bytes, rectangle: Rectangle, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """The bitmap [rows, columns] of an encoded mask.

    Raises:
        ValueError: if the bytes are not those of a mask of that rectangle, or it does not fit the image.
    """
    x, y, width, height = rectangle
    if min(x, y) < 0 or min(width, height) < 1 or x + width > columns or y + height > rows:
        raise ValueError(f"a mask at {rectangle} does not fit an image of {columns} x {rows} px")
    expected = (width * height + 7) // 8
    try:
        inflater = zlib.decompressobj()
        packed = np.frombuffer(inflater.decompress(mask, expected + 1), dtype=np.uint8)
    except zlib.error as error:
        raise ValueError(f"the bytes of a mask are damaged ({error})") from error
    if packed.size != expected or not inflater.eof:
        raise ValueError(f"a mask of {packed.size} bytes where {width} x {height} px were expected")
    bitmap = np.zeros((rows, columns), dtype=np.bool_)
    bitmap[y : y + height, x : x + width] = np.unpackbits(packed, count=width * height).reshape(height, width)
    return bitmap
