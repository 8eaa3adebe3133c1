"""Many small pictures in few: sheets of cells as WebP data URIs, one CSS class each."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CELL = 64
"""px of a side of a cell; pictures keep their aspect within it."""
ACROSS = 32
"""Cells of a row of a sheet, and rows of a sheet: 2048 px, which every browser decodes."""
PER_SHEET = ACROSS**2
_QUALITY = 50


def cell(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture [row, column] in [0, 1] as uint8 [CELL, CELL]: the long side fills it, the rest is black."""
    grey = np.nan_to_num(np.asarray(picture, dtype=np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    whole = Image.fromarray((np.clip(grey, 0, 1) * 255).round().astype(np.uint8))
    scale = CELL / max(whole.size)
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    result = Image.new("L", (CELL, CELL))
    small = whole.resize(size, Image.Resampling.LANCZOS)
    result.paste(small, ((CELL - small.width) // 2, (CELL - small.height) // 2))
    return np.asarray(result)


def sheets(cells: NDArray[np.uint8]) -> Iterator[str]:
    """Cells [image, CELL, CELL] as data URIs of sheets, PER_SHEET images each; the last is as high as its images."""
    for begin in range(0, len(cells), PER_SHEET):
        part = cells[begin : begin + PER_SHEET]
        rows = -(-len(part) // ACROSS)
        filled = np.zeros((rows * ACROSS, CELL, CELL), dtype=np.uint8)
        filled[: len(part)] = part
        sheet = filled.reshape(rows, ACROSS, CELL, CELL).swapaxes(1, 2).reshape(rows * CELL, ACROSS * CELL)
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, format="WEBP", quality=_QUALITY, method=4)
        yield f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def place(image: int) -> tuple[int, int, int]:
    """(sheet, column, row) of an image's cell."""
    sheet, number = divmod(image, PER_SHEET)
    return sheet, number % ACROSS, number // ACROSS
