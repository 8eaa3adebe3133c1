"""FCOS (Tian et al. 2019): a detector without anchors, each place of the pyramid answers for the box around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoutview.encoders import ResNet, at_least_fp32
from scoutview.tasks.detection.locations import STRIDES, Locations, make_locations
from scoutview.tasks.detection.pyramid import Pyramid

PRIOR = 0.01
"""The probability of each class that an untrained head says: without it the first steps only unlearn the background."""
LARGEST = 2.0**15
"""px; no distance exceeds it, or a wild step would overflow."""


@dataclass(frozen=True)
class HeadOutputs:
    """What the network says at each location, in fp32 at least.

    logits [image, location, class]; distances [image, location, 4] in px to the left, top, right and bottom side, > 0;
    centerness [image, location], logits; locations: their points.
    """

    logits: Tensor
    distances: Tensor
    centerness: Tensor
    locations: Locations


class Head(nn.Module):
    """Two towers that all levels share, of `depth` times conv3-GroupNorm-ReLU; the centre-ness is on that of the boxes.

    The distances are s exp(a_s x) for the stride s of a level, with a learned scale a_s of its own.
    """

    def __init__(self, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.class_tower, self.box_tower = _tower(width, depth), _tower(width, depth)
        self.logits = nn.Conv2d(width, classes, 3, padding=1)
        self.distances = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.logits.bias, math.log(PRIOR / (1 - PRIOR)))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> HeadOutputs:
        """[image, channel, row, column] of each level -> the outputs of all, one after another."""
        logits, distances, centerness = [], [], []
        for level, scale, stride in zip(levels, self.scales, STRIDES, strict=True):
            boxes = self.box_tower(level)
            logits.append(_by_location(self.logits(self.class_tower(level))))
            raw = scale * _by_location(self.distances(boxes))
            distances.append(stride * raw.clamp_max(math.log(LARGEST / stride)).exp())
            centerness.append(_by_location(self.centerness(boxes)).squeeze(-1))
        shapes = [(level.shape[-2], level.shape[-1]) for level in levels]
        return HeadOutputs(
            logits=torch.cat(logits, 1),
            distances=torch.cat(distances, 1),
            centerness=torch.cat(centerness, 1),
            locations=make_locations(shapes, levels[0].device),
        )


class Fcos(nn.Module):
    """A ResNet, its pyramid and the head: [image, 1, row, column] in [0, 1] of any size -> `HeadOutputs`."""

    def __init__(self, encoder: ResNet, classes: int, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.encoder = encoder
        self.pyramid = Pyramid(encoder.channels[1:], width)
        self.head = Head(classes, width, depth)

    def forward(self, images: Tensor) -> HeadOutputs:
        """See the class."""
        outputs: HeadOutputs = self.head(self.pyramid(self.encoder.stages(images)[1:]))
        return outputs


def _tower(width: int, depth: int) -> nn.Sequential:
    """32 groups of GroupNorm, fewer in a narrow tower: a single channel on a map of one pixel has no variance."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        layers.append(nn.GroupNorm(math.gcd(32, width // 2, width), width))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _by_location(level: Tensor) -> Tensor:
    """[image, channel, row, column] -> [image, location, channel] in fp32 at least."""
    return at_least_fp32(level.flatten(2).transpose(1, 2))
