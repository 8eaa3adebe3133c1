"""Outlines of findings, as chains of pixels -> the pixels within."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Point = tuple[int, int]


def within(points: Sequence[Point]) -> tuple[int, int, npt.NDArray[np.bool_]]:
    """(x, y, bitmap [row, column]) of the pixels strictly within a closed polygon of pixel centres (x, y).

    The bitmap covers the rectangle around the polygon, whose first pixel is x, y. Pixels on the outline are not
    within. Even-odd rule: a line from a pixel to the right crosses the outline an odd number of times.
    """
    corners = np.array(points, dtype=np.int64).reshape(-1, 2)
    x, y = (int(value) for value in corners.min(axis=0))
    width, height = (int(value) + 1 for value in corners.max(axis=0) - (x, y))
    rows, columns = np.mgrid[y : y + height, x : x + width]
    odd = np.zeros((height, width), dtype=np.bool_)
    edge = np.zeros((height, width), dtype=np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # Which side of the line a pixel lies on, in whole numbers: exact.
        side = (x1 - x0) * (rows - y0) - (columns - x0) * (y1 - y0)
        between = (min(x0, x1) <= columns) & (columns <= max(x0, x1)) & (min(y0, y1) <= rows) & (rows <= max(y0, y1))
        edge |= (side == 0) & between
        crosses = (y0 <= rows) != (y1 <= rows)
        odd ^= crosses & ((side > 0) == (y1 > y0)) & (side != 0)
    return x, y, odd & ~edge
