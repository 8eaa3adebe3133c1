"""Boxes into the square that the network sees, and back: the geometry of `scoutview.views.network_input`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoutview.errors import UsageError

Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Letterbox:
    """An image of rows x columns px within a square: it fills inner_rows x inner_columns px from (top, left).

    Each axis has its own factor, as inner_rows and inner_columns are whole numbers; without it boxes at the lower end
    of a narrow image would be off by up to half a pixel of the square.
    """

    rows: int
    columns: int
    inner_rows: int
    inner_columns: int
    top: int
    left: int

    @property
    def area(self) -> tuple[float, float, float, float]:
        """The part of the square that is image: left, top, right, bottom in px; the rest is padding."""
        return (
            float(self.left),
            float(self.top),
            float(self.left + self.inner_columns),
            float(self.top + self.inner_rows),
        )

    def into(self, boxes: npt.ArrayLike) -> Boxes:
        """Boxes [box, 4] of the image in px -> of the square."""
        return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * self._factors() + self._offset()

    def back(self, boxes: npt.ArrayLike) -> Boxes:
        """Boxes [box, 4] of the square -> of the image in px, cut off at its borders."""
        mapped = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - self._offset()) / self._factors()
        return mapped.clip(0.0, np.array([self.columns, self.rows] * 2, dtype=np.float64))

    def _factors(self) -> Boxes:
        return np.array([self.inner_columns / self.columns, self.inner_rows / self.rows] * 2)

    def _offset(self) -> Boxes:
        return np.array([self.left, self.top] * 2, dtype=np.float64)


def make_letterbox(rows: int, columns: int, size: int) -> Letterbox:
    """Where `network_input` puts an image of rows x columns px in its square of `size` px: the long side fills it.

    Raises:
        UsageError: if a length is not positive.
    """
    if min(rows, columns, size) < 1:
        raise UsageError(f"an image of {rows} x {columns} px in a square of {size} px: lengths must be at least 1")
    scale = size / max(rows, columns)
    inner_rows, inner_columns = max(1, round(rows * scale)), max(1, round(columns * scale))
    return Letterbox(rows, columns, inner_rows, inner_columns, (size - inner_rows) // 2, (size - inner_columns) // 2)
