"""A whole image or volume at the size of a network: what embed, probe, finetune, evaluate and predict show to it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoutview.preprocessing import window_weights
from scoutview.views.parameters import ViewSize, in_plane
from scoutview.views.rescale import rescale


def network_input(image: npt.NDArray[np.float32], size: ViewSize) -> npt.NDArray[np.float32]:
    """A whole image [row, column] in [0, 1] as a square [size, size]: the long side fills it, the rest is 0.

    Or a volume [slice, row, column] as `size` (slices, rows, columns): each of its slices is rescaled to fit in, with
    one factor for rows and columns, and slices are brought to their number as `network_slices` says; the rest is 0.
    """
    rows, columns = in_plane(size)
    if image.ndim == 2:
        return _in_plane(image, rows, columns)
    if not isinstance(size, tuple) or len(size) != 3:
        raise ValueError(f"a volume has no size {size}: give slices, rows and columns")
    planes = np.stack([_in_plane(plane, rows, columns) for plane in image])
    centres, width = network_slices(len(image), size[0])
    shown = ~np.isnan(centres)
    result = np.zeros(size, dtype=np.float32)
    if width == 1.0:
        result[shown] = planes
    else:
        result[shown] = np.tensordot(window_weights(centres[shown], width, len(image)), planes, 1).clip(0.0, 1.0)
    return result


def network_slices(slices: int, count: int) -> tuple[npt.NDArray[np.float64], float]:
    """(centre of each of `count` slices of a network input among those of a volume, how many of these each covers).

    A volume of more slices than the input has is averaged: each new slice is the mean of what it covers. One of fewer
    lies in the middle as it is, as in the views of pretraining; the slices around it are NaN.
    """
    if slices > count:
        width = slices / count
        return np.arange(count, dtype=np.float64) * width + (width - 1) / 2, width
    centres = np.full(count, np.nan, dtype=np.float64)
    front = (count - slices) // 2
    centres[front : front + slices] = np.arange(slices)
    return centres, 1.0


def _in_plane(image: npt.NDArray[np.float32], most_rows: int, most_columns: int) -> npt.NDArray[np.float32]:
    scale = min(most_rows / image.shape[0], most_columns / image.shape[1])
    rows = max(1, round(image.shape[0] * scale))
    columns = max(1, round(image.shape[1] * scale))
    result = np.zeros((most_rows, most_columns), dtype=np.float32)
    top, left = (most_rows - rows) // 2, (most_columns - columns) // 2
    result[top : top + rows, left : left + columns] = rescale(image, rows, columns).clip(0.0, 1.0)
    return result
