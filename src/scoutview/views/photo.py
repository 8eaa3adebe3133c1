"""Photo-style augmentation of rendered views, as published for SwAV and SimCLR, without colour: a baseline.

Horizontal flip, brightness, contrast, blur. They act on the crop, as they do there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scoutview.views.parameters import later_draws

FLIP, JITTER, BLUR = 0.5, 0.8, 0.5
"""Probability of each; brightness and contrast change together."""
STRENGTH = 0.8
"""Factors of brightness and contrast are U[1 - STRENGTH, 1 + STRENGTH]."""
SIGMAS = (0.1, 2.0)
"""Range of the blur in px of a crop of PUBLISHED_SIZE px; it scales with the size."""
PUBLISHED_SIZE = 224


@dataclass(frozen=True)
class PhotoParameters:
    """Drawn parameters [image, view]: flip is boolean; brightness and contrast are 1 and blur 0 where not drawn."""

    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    blur: Tensor


def draw_photo(positions: Sequence[int], views: int, *, seed: int, step: int) -> PhotoParameters:
    """Draw for the images at these positions of a batch, with the key of `draw_parameters`, whose numbers stay."""
    draws = np.stack([later_draws(views, 6, seed=seed, step=step, position=position) for position in positions])
    flip, jitter, brightness, contrast, blur, sigma = np.moveaxis(draws, 2, 0)
    low, high = SIGMAS
    columns = (
        np.where(jitter < JITTER, 1 + STRENGTH * (2 * brightness - 1), 1.0),
        np.where(jitter < JITTER, 1 + STRENGTH * (2 * contrast - 1), 1.0),
        np.where(blur < BLUR, low + (high - low) * sigma, 0.0),
    )
    return PhotoParameters(torch.from_numpy(flip < FLIP), *(torch.from_numpy(each).float() for each in columns))


def augment_photo(groups: Sequence[Tensor], parameters: PhotoParameters) -> list[Tensor]:
    """Augment views [view, image, 1, size, size] in groups of equal size: the result is in [0, 1]."""
    first = 0
    augmented = []
    for group in groups:
        views = slice(first, first + len(group))
        first += len(group)
        names = ("flip", "brightness", "contrast", "blur")
        flip, brightness, contrast, blur = (
            getattr(parameters, name)[:, views].T[:, :, None, None, None].to(group.device) for name in names
        )
        result = torch.where(flip, group.flip(-1), group)
        result = (result * brightness).clamp(0.0, 1.0)
        mean = result.mean((-2, -1), keepdim=True)
        result = ((result - mean) * contrast + mean).clamp(0.0, 1.0)
        augmented.append(_blurred(result, blur.flatten() * group.shape[-1] / PUBLISHED_SIZE))
    return augmented


def _blurred(views: Tensor, sigma: Tensor) -> Tensor:
    """Each view [view, image, 1, size, size] by a Gaussian of its own sigma [view and image] px, or 0 for none."""
    size = views.shape[-1]
    radius = min(math.ceil(3 * SIGMAS[1] * size / PUBLISHED_SIZE), size - 1)
    offsets = torch.arange(-radius, radius + 1, device=views.device)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]).square())  # at 1e-3 px the centre alone
    weights = (weights / weights.sum(1, keepdim=True))[:, None, :, None]
    joined = F.pad(views.reshape(1, -1, size, size), [radius] * 4, mode="reflect")
    joined = F.conv2d(joined, weights, groups=joined.shape[1])
    return F.conv2d(joined, weights.transpose(2, 3), groups=joined.shape[1]).view(views.shape)
