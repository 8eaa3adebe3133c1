"""Changes of an image that should not matter: gamma, rotation, scale (spec section 7, the paper's Fig. 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

GAMMA = (1.8, 2.6)
ANGLE = (-10.0, 10.0)
SCALE = (0.9, 1.1)


@dataclass(frozen=True)
class Transform:
    """I -> I^gamma, then turned by `angle` degrees, clockwise as seen, and enlarged by `scale` about its centre."""

    gamma: float = 1.0
    angle: float = 0.0
    scale: float = 1.0


def draw_transforms(count: int) -> list[Transform]:
    """The same `count` transforms whenever they are drawn; a third each are gamma, turn with scale, or both."""
    generator = np.random.Generator(np.random.Philox(key=0, counter=[0, 3, 0, 0]))
    kinds = generator.integers(3, size=count)
    drawn = zip(kinds, *(generator.uniform(*span, count).tolist() for span in (GAMMA, ANGLE, SCALE)), strict=True)
    return [
        Transform(gamma if kind != 1 else 1.0, *((angle, scale) if kind != 0 else (0.0, 1.0)))
        for kind, gamma, angle, scale in drawn
    ]


def apply_transform(images: Tensor, transform: Transform) -> Tensor:
    """[image, 1, row, column] in [0, 1] under one transform, bilinear; what comes in from outside is 0."""
    changed = images.clamp_min(0.0) ** transform.gamma
    rows, columns = images.shape[2:]
    cosine = math.cos(math.radians(transform.angle)) / transform.scale
    sine = math.sin(math.radians(transform.angle)) / transform.scale
    # From a place in the result to one in the image, in units of half the image, (x, y).
    matrix = torch.tensor([[cosine, sine * rows / columns, 0.0], [-sine * columns / rows, cosine, 0.0]])
    grid = F.affine_grid(matrix.to(images).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(changed, grid, align_corners=False)
