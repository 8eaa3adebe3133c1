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
    cells = _cell_means(pixels, 8, 9)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def small_copy(pixels: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Means of 32 x 32 cells, less their mean, as a vector of unit length [1024]; zeros for a constant image.

    The dot product of two small copies is the correlation of the images, whatever their size and contrast.
    """
    cells = _cell_means(pixels, 32, 32).ravel()
    centred = cells - cells.mean()
    unit: npt.NDArray[np.float64] = centred / max(float(np.linalg.norm(centred)), 1e-12)
    return unit


def _cell_means(pixels: npt.NDArray[np.int16], down: int, across: int) -> npt.NDArray[np.float64]:
    """Means of a grid of cells [down, across] over an image [row, column]."""
    rows = np.linspace(0, pixels.shape[0], down + 1).astype(int)
    columns = np.linspace(0, pixels.shape[1], across + 1).astype(int)
    in_rows = np.add.reduceat(pixels, rows[:-1], axis=0, dtype=np.int64)
    sums = np.add.reduceat(in_rows, columns[:-1], axis=1)
    means: npt.NDArray[np.float64] = sums / np.maximum(np.outer(np.diff(rows), np.diff(columns)), 1)
    return means
