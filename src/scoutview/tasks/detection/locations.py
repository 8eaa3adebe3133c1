"""Where the network looks: each place of a feature map stands for a point of the image (FCOS, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
"""Of the levels P3 to P7, in px."""
RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, float("inf")))
"""The largest distance from a point to a side of its box, in px, by level: above the first, up to the second."""


@dataclass(frozen=True)
class Locations:
    """The points of all levels one after another, each level row by row.

    points [location, 2]: x, y in px; strides [location] in px; ranges [location, 2] in px; sizes: points by level.
    """

    points: Tensor
    strides: Tensor
    ranges: Tensor
    sizes: tuple[int, ...]


def make_locations(shapes: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> Locations:
    """The points of maps of `shapes` (rows, columns), one per level of `STRIDES`.

    Place (row, column) of a map of stride s is the point (s / 2 + s column, s / 2 + s row).
    """
    points = []
    for (rows, columns), stride in zip(shapes, STRIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        points.append(torch.stack([x.flatten(), y.flatten()], 1) * stride + stride // 2)
    sizes = tuple(len(level) for level in points)
    by_level = torch.tensor(sizes, device=device)
    return Locations(
        points=torch.cat(points).float(),
        strides=torch.tensor(STRIDES, dtype=torch.float32, device=device).repeat_interleave(by_level),
        ranges=torch.tensor(RANGES, dtype=torch.float32, device=device).repeat_interleave(by_level, 0),
        sizes=sizes,
    )
