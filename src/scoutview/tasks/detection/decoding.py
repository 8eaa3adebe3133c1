"""From what the head says to boxes with scores, and to one score per case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoutview.errors import UsageError
from scoutview.tasks.detection.boxes import box_areas, clip_boxes, suppress
from scoutview.tasks.detection.network import HeadOutputs

THRESHOLD = 0.05
"""Scores up to it are no detections."""
PER_LEVEL = 1000
"""Candidates of a level, before suppression."""
OVERLAP = 0.6
"""IoU above which the lower of two boxes of one class goes."""
PER_IMAGE = 100


@dataclass(frozen=True)
class Detections:
    """The boxes of one image by falling score, on the CPU: boxes [box, 4] in px, scores [box] in (0.05, 1], classes."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


@torch.no_grad()
def decode(outputs: HeadOutputs, areas: Tensor) -> list[Detections]:
    """The detections of each image; areas [image, 4]: the part of the input that is image and no padding, in px.

    A score is sqrt(class probability x centre-ness). Locations in the padding say nothing, and boxes end at the area.
    Suppression is per class; of equal scores the finer level counts as the higher, then the upper left location.

    Raises:
        UsageError: if areas do not match the images.
    """
    if areas.shape != (len(outputs.logits), 4):
        raise UsageError(f"areas {tuple(areas.shape)} of {len(outputs.logits)} images: give [image, 4]")
    points = outputs.locations.points
    result = []
    for logits, centerness, distances, area in zip(
        outputs.logits, outputs.centerness, outputs.distances, areas.to(points), strict=True
    ):
        inside = ((points >= area[:2]) & (points < area[2:])).all(1)
        scores = (logits.sigmoid() * centerness.sigmoid()[:, None]).sqrt() * inside[:, None]
        places, classes = _candidates(scores, outputs.locations.sizes)
        boxes = torch.cat([points[places] - distances[places, :2], points[places] + distances[places, 2:]], 1)
        # The loop of the suppression waits for each answer, so it runs where that costs nothing.
        boxes, kept = clip_boxes(boxes, area).cpu(), scores[places, classes].cpu()
        result.append(_suppressed(boxes, kept, classes.cpu()))
    return result


def case_scores(detections: Sequence[Detections], classes: int) -> Tensor:
    """Score [image, class] of a case: that of the best box of the class, 0 if there is none."""
    scores = torch.zeros(len(detections), classes)
    for row, found in zip(scores, detections, strict=True):
        row.scatter_reduce_(0, found.classes, found.scores.to(row), "amax")
    return scores


def _candidates(scores: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(location, class), each [candidate]: of each level the best `PER_LEVEL` scores above the threshold."""
    number = scores.shape[1]
    chosen, first = [], 0
    for level, size in zip(scores.split(list(sizes)), sizes, strict=True):
        flat = level.flatten()
        above = (flat > THRESHOLD).nonzero().squeeze(1)
        best = torch.argsort(flat[above], descending=True, stable=True)[:PER_LEVEL]
        chosen.append(above[best] + first * number)
        first += size
    together = torch.cat(chosen)
    return together // number, together % number


def _suppressed(boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
    kept = []
    filled = box_areas(boxes) > 0
    for name in classes.unique().tolist():
        own = (filled & (classes == name)).nonzero().squeeze(1)
        # No class can have more of the best PER_IMAGE than that many of its own.
        kept.append(own[suppress(boxes[own], scores[own], OVERLAP, PER_IMAGE)])
    together = torch.cat(kept).sort().values if kept else torch.zeros(0, dtype=torch.long)
    order = together[torch.argsort(scores[together], descending=True, stable=True)[:PER_IMAGE]]
    return Detections(boxes[order], scores[order], classes[order])
