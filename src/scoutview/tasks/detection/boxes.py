"""Boxes as tensors [..., 4]: left, top, right, bottom."""

from __future__ import annotations

import torch
from torch import Tensor


def box_areas(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]; 0 where a box ends before it begins."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)


def box_overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast: [..., 4] and [..., 4] -> [...], 0 where both are empty."""
    intersection = box_areas(
        torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1)
    )
    union = box_areas(a) + box_areas(b) - intersection
    return torch.where(union > 0, intersection / union.where(union > 0, 1), 0)


def generalized_overlaps(a: Tensor, b: Tensor) -> Tensor:
    """IoU minus the share of the smallest enclosing box that neither covers (GIoU, Rezatofighi et al. 2019): (-1, 1].

    a, b [box, 4], of which at least one has an area.
    """
    intersection = box_areas(torch.cat([torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])], -1))
    union = box_areas(a) + box_areas(b) - intersection
    enclosing = box_areas(torch.cat([torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])], -1))
    return intersection / union - (enclosing - union) / enclosing


def clip_boxes(boxes: Tensor, area: Tensor) -> Tensor:
    """Boxes [box, 4] cut off at the borders of `area` [4]."""
    low, high = area[:2].repeat(2), area[2:].repeat(2)
    return torch.minimum(torch.maximum(boxes, low), high)


def suppress(boxes: Tensor, scores: Tensor, limit: float, most: int) -> Tensor:
    """Greedy non-maximum suppression: the places [kept] of at most `most` boxes by falling score.

    boxes [box, 4]; scores [box]. A box goes when its IoU with one that stays and scores higher is above `limit`; of
    equal scores the earlier one counts as the higher.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = boxes[order]
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    kept: list[int] = []
    for place in range(len(boxes)):
        if len(kept) == most:
            break
        if alive[place]:
            kept.append(place)
            alive[place + 1 :] &= box_overlaps(boxes[place], boxes[place + 1 :]) <= limit
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]
