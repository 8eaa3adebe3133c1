"""Which location answers for which box (FCOS, section 3.1 and 3.2; centre sampling as in its 2020 version)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoutview.errors import UsageError
from scoutview.tasks.detection.boxes import box_areas
from scoutview.tasks.detection.locations import Locations

RADIUS = 1.5
"""Of centre sampling, in strides."""
NOTHING = -1
"""The class of a location without a box."""


@dataclass(frozen=True)
class DetectionTargets:
    """What the head should say.

    classes [image, location], `NOTHING` where there is no box; distances [image, location, 4] in px from the point to
    the left, top, right and bottom side of its box, 0 without one; centerness [image, location] in (0, 1], 0 without.
    """

    classes: Tensor
    distances: Tensor
    centerness: Tensor


def assign_targets(locations: Locations, boxes: Sequence[Tensor], classes: Sequence[Tensor]) -> DetectionTargets:
    """Targets of a batch; boxes: one tensor [box, 4] per image in px of the input, classes: one [box] of integers.

    A location takes a box if its point lies within the box and within `RADIUS` strides of its centre along each axis,
    both strictly, and if the largest of the four distances is in the range of its level. Of several boxes it takes
    the smallest, of equal ones the first.

    Raises:
        UsageError: if the boxes and classes of an image differ in number, or a box has no area.
    """
    everything = [_assign(locations, *pair) for pair in zip(boxes, classes, strict=True)]
    return DetectionTargets(*(torch.stack(part) for part in zip(*everything, strict=True)))


def distances_to(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances to the left, top, right and bottom side: points [..., 2], boxes [..., 4] -> [..., 4] (FCOS, Eq. 1)."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


def centerness_of(distances: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) x min(t, b) / max(t, b)) of positive distances [..., 4] (FCOS, Eq. 3): [...]."""
    pairs = torch.stack([distances[..., :2], distances[..., 2:]], -1)
    return (pairs.amin(-1) / pairs.amax(-1)).prod(-1).sqrt()


def _assign(locations: Locations, boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Classes, distances and centre-ness of one image."""
    if boxes.shape != (len(classes), 4) or bool((box_areas(boxes) <= 0).any()):
        raise UsageError(
            f"boxes {tuple(boxes.shape)} and classes {tuple(classes.shape)} of an image: give [n, 4] and [n], "
            "each box with an area"
        )
    points = locations.points
    nothing = torch.full((len(points),), NOTHING, dtype=torch.long, device=points.device)
    if not len(boxes):
        return nothing, points.new_zeros(len(points), 4), points.new_zeros(len(points))
    boxes = boxes.to(points)
    distances = distances_to(points[:, None], boxes[None])
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = (points[:, None] - centers[None]).abs().amax(-1)
    furthest = distances.amax(-1)
    takes = (
        (distances.amin(-1) > 0)
        & (away < RADIUS * locations.strides[:, None])
        & (furthest > locations.ranges[:, :1])
        & (furthest <= locations.ranges[:, 1:])
    )
    areas = torch.where(takes, box_areas(boxes), torch.inf)
    chosen = areas.argmin(1)
    positive = takes.any(1)
    own = distances.gather(1, chosen[:, None, None].expand(-1, 1, 4)).squeeze(1)
    return (
        torch.where(positive, classes.to(nothing)[chosen], nothing),
        torch.where(positive[:, None], own, 0),
        torch.where(positive, centerness_of(own.where(positive[:, None], 1)), 0),
    )
