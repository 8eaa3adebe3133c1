"""What a drawn image consists of: pixels in physical units, labels, masks and boxes that agree with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
"""Intermediate values; numpy's stubs lose track of float32 in sums with Python numbers."""

LABELS: dict[str, tuple[str, ...]] = {
    "xray": ("lesion", "pneumothorax"),
    "ct": ("hemorrhage", "subarachnoid", "subdural", "epidural", "intraventricular", "intraparenchymal"),
    "mr": ("metastasis",),
    "us": ("cyst", "mass"),
}
"""The labels of each modality. `hemorrhage` is the union of the five types after it."""


@dataclass(frozen=True)
class Box:
    """A finding's bounding box in px: `x`, `y` is the top left pixel, columns x .. x + width - 1 belong to it."""

    label: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Slice:
    """One image.

    pixels: float32 [row, column]: HU for CT, 0..4095 for X-ray, arbitrary units >= 0 for MR, 0..255 for US.
    labels: 0 or 1 for every label of the modality; 1 exactly when the mask of that name is not empty.
    masks: bool [row, column] for every label of the modality.
    boxes: one for each finding; every masked pixel lies in a box of its label.
    spacing: size of a pixel in mm, the same for rows and columns.
    position: mm along the patient's feet-to-head axis, 0 where there is one image only.
    """

    pixels: Pixels
    labels: dict[str, int]
    masks: dict[str, Mask]
    boxes: list[Box]
    spacing: float
    position: float = 0.0


def box_around(label: str, mask: Mask) -> Box:
    """The smallest box that contains every true pixel of `mask`, which must have one."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return Box(
        label=label,
        x=int(columns[0]),
        y=int(rows[0]),
        width=int(columns[-1] - columns[0] + 1),
        height=int(rows[-1] - rows[0] + 1),
    )


def union(masks: list[Mask], shape: tuple[int, int]) -> Mask:
    """The pixels in any of `masks`; nothing where there are none."""
    result = np.zeros(shape, dtype=np.bool_)
    for mask in masks:
        result |= mask
    return result
