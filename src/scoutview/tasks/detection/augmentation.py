"""Random zoom, shift and intensity for detection, which never cut a box.

Parameters are drawn first and applied after, batched on the device. No flips: laterality matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class DetectionAugmentation:
    """Ranges of the random changes.

    Attributes:
        zoom: factor about the centre of the input.
        shift: largest shift along each axis, as a share of the input's length.
        gain: range of a in the intensity change a I + b.
        bias: range of b.
    """

    zoom: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.06
    gain: tuple[float, float] = (0.9, 1.1)
    bias: tuple[float, float] = (-0.1, 0.1)


@dataclass(frozen=True)
class Changes:
    """One change per image, float32: zoom, gain, bias [image]; shift [image, 2] in px along x and y, after the zoom.

    A point p moves to c + zoom (p - c) + shift, c the centre of the input.
    """

    zoom: Tensor
    shift: Tensor
    gain: Tensor
    bias: Tensor


def draw_changes(
    settings: DetectionAugmentation,
    boxes: Sequence[Tensor],
    shape: tuple[int, int],
    generator: np.random.Generator,
) -> Changes:
    """Draw the changes of a batch; boxes: [box, 4] per image, within an input of `shape` (rows, columns) in px.

    Zoom and shift are drawn without regard to boxes and then brought to the nearest values at which all boxes of the
    image stay within the input, so a finding is never cut and never lost. Every image takes the same number of draws.
    """
    count = len(boxes)
    lengths = np.array([shape[1], shape[0]], dtype=np.float64)
    zoom = generator.uniform(*settings.zoom, count)
    shift = generator.uniform(-settings.shift, settings.shift, (count, 2)) * lengths
    gain, bias = generator.uniform(*settings.gain, count), generator.uniform(*settings.bias, count)
    for place, own in enumerate(boxes):
        if len(own):
            corners = own.double().cpu().numpy()
            low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
            zoom[place] = min(zoom[place], float((lengths / (high - low)).min()))
            center = lengths / 2
            first, last = (center + zoom[place] * (side - center) for side in (low, high))
            shift[place] = np.minimum(np.maximum(shift[place], -first), lengths - last)
    return Changes(*(torch.from_numpy(value.astype(np.float32)) for value in (zoom, shift, gain, bias)))


def change_images(images: Tensor, changes: Changes) -> Tensor:
    """Apply to [image, 1, row, column], bilinear; what comes in from outside is 0 before the intensity change."""
    rows, columns = images.shape[-2:]
    lengths = torch.tensor([columns, rows], dtype=torch.float32)
    matrices = torch.zeros(len(images), 2, 3)
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 / changes.zoom
    matrices[:, :, 2] = -2 * changes.shift / lengths / changes.zoom[:, None]
    grid = F.affine_grid(matrices.to(images.device), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    gain, bias = (value.to(images.device)[:, None, None, None] for value in (changes.gain, changes.bias))
    return moved * gain + bias


def change_boxes(boxes: Tensor, changes: Changes, place: int, shape: tuple[int, int]) -> Tensor:
    """Where the boxes [box, 4] of image number `place` are after `change_images`, for inputs of `shape`."""
    lengths = torch.tensor([shape[1], shape[0]], dtype=boxes.dtype, device=boxes.device).repeat(2)
    zoom = changes.zoom[place].to(boxes)
    moved = lengths / 2 + zoom * (boxes - lengths / 2) + changes.shift[place].to(boxes).repeat(2)
    # fp32 may leave the input by the last bit.
    return torch.minimum(moved.clamp_min(0), lengths)
