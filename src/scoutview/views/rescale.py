"""Rescaling by the cosine transform: an image is its DCT coefficients, and a smaller image is fewer of them.

The anti-aliasing filter is a Gaussian that takes the blur of the old pixel to that of the new one, cut off at the
new Nyquist frequency of each axis. It is radial up to that cut, where little is left, so the radial spectrum predicts
the energy bands of the result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from scoutview.images.spectrum import prefilter_sigma


def image_coefficients(image: npt.NDArray[np.float32], keep: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
    """Orthonormal DCT-II of an image [row, column]: [row frequency, column frequency], the first `keep` of each."""
    rows, columns = keep or image.shape
    along_rows = fft.dct(image, axis=0, norm="ortho")[:rows]
    coefficients: npt.NDArray[np.float32] = fft.dct(along_rows, axis=1, norm="ortho")[:, :columns]
    return np.ascontiguousarray(coefficients)


def rescale(image: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Resample an image [row, column] to [rows, columns]; both axes may have a different factor.

    The result may leave the range of the image a little at hard edges; callers that need [0, 1] clip.
    """
    old_rows, old_columns = image.shape
    kept = (min(rows, old_rows), min(columns, old_columns))
    coefficients = image_coefficients(image, kept)
    vertical = np.pi * np.arange(kept[0]) / old_rows
    horizontal = np.pi * np.arange(kept[1]) / old_columns
    scales = (rows / old_rows, columns / old_columns)
    down = np.exp(-np.square(prefilter_sigma(scales[0]) * vertical) / 2)
    across = np.exp(-np.square(prefilter_sigma(scales[1]) * horizontal) / 2)
    padded = np.zeros((rows, columns), dtype=np.float32)
    padded[: kept[0], : kept[1]] = coefficients * np.outer(down, across)
    size = np.sqrt(rows * columns / (old_rows * old_columns))
    result: npt.NDArray[np.float32] = (fft.idctn(padded, norm="ortho") * size).astype(np.float32)
    return result
