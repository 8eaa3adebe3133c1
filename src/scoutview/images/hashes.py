"""Identity of pixels: exact (SHA-256) and perceptual (64-bit difference hash)."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def pixel_sha256(pixels: npt.NDArray[np.int16]) -> str:
    """SHA-256 over the shape and the little-endian int16 [row, column] values, as 64 hex digits."""
    digest = hashlib.sha256(f"int16 {pixels.shape[0]} {pixels.shape[1]};".encode())
    digest.update(np.ascontiguousarray(pixels, dtype="<i2").tobytes())
    return digest.hexdigest()


def difference_hash(pixels: npt.NDArray[np.int16]) -> str:
    """dHash: the image is averaged to 8 x 9 cells; bit = cell brighter than its left neighbour; 16 hex digits.

    Images that differ by brightness, contrast, a little noise or resampling are a few of 64 bits apart.
    """
    rows = np.linspace(0, pixels.shape[0], 9).astype(int)
    columns = np.linspace(0, pixels.shape[1], 10).astype(int)
    in_rows = np.add.reduceat(pixels, rows[:-1], axis=0, dtype=np.int64)
    sums = np.add.reduceat(in_rows, columns[:-1], axis=1)
    areas = np.maximum(np.outer(np.diff(rows), np.diff(columns)), 1)
    cells = sums / areas
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"
