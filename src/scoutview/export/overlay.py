"""The picture of an image with found boxes drawn into it, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from scoutview.files import replacing
from scoutview.tasks.prediction import FoundBox

COLOURS = ((255, 176, 0), (100, 200, 255), (254, 97, 0), (120, 94, 240), (220, 38, 127))
"""By class, told apart also by those who see fewer colours."""
DRAWN = 5
"""Boxes of an image, the highest scores: a hundred faint ones would hide it."""


def line_width(shape: tuple[int, int]) -> int:
    """px of the line of a box in a picture of rows x columns."""
    return max(1, round(max(shape) / 400))


def draw_overlay(
    picture: npt.NDArray[np.uint8], boxes: Sequence[FoundBox], classes: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """[row, column] -> RGB [row, column, 3] with the outlines of the best boxes, drawn inwards of their borders."""
    image = Image.fromarray(picture).convert("RGB")
    draw = ImageDraw.Draw(image)
    for box in reversed(boxes[:DRAWN]):
        left, top, right, bottom = (round(value) for value in box.corners)
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        colour = COLOURS[classes.index(box.name) % len(COLOURS)]
        draw.rectangle((left, top, right, bottom), outline=colour, width=line_width(picture.shape))
    return np.asarray(image)


def write_overlay(
    path: Path, picture: npt.NDArray[np.uint8], boxes: Sequence[FoundBox], classes: Sequence[str]
) -> None:
    """Write the picture as PNG, without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(draw_overlay(picture, boxes, classes)).save(buffer, format="PNG")
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
