"""Which detections find which truths (spec section 7): the part of fROC that looks at boxes.

Matches of one image do not depend on the other images, so they are made once, and a curve or a bootstrap
resample only counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]
_AT_ONCE = 1 << 20  # pairs of boxes compared at a time: some 100 MB


@dataclass(frozen=True)
class MatchingRule:
    """When a detection matches a truth.

    Attributes:
        name: iou (intersection over union >= limit), center_in_box (the detection's centre lies in the truth, its
            border included) or center_distance (the centres are at most `limit` apart).
        limit: for iou in (0, 1]; for center_distance >= 0, in the unit of the boxes; center_in_box has none (0).

    Raises:
        UsageError: for another name, or a limit that is not of the rule.
    """

    name: Literal["iou", "center_in_box", "center_distance"]
    limit: float = 0.0

    def __post_init__(self) -> None:
        limit = self.limit
        match self.name:
            case "iou":
                right = 0 < limit <= 1
            case "center_in_box":
                right = limit == 0
            case "center_distance":
                right = 0 <= limit < np.inf
            case _:
                raise UsageError(f"unknown matching rule {self.name!r}: use iou, center_in_box or center_distance")
        if not right:
            raise UsageError(
                f"matching rule {self.name} has the limit {limit}: iou takes one in (0, 1], center_distance one >= 0, "
                "center_in_box none"
            )

    def __str__(self) -> str:
        return self.name if self.name == "center_in_box" else f"{self.name} {self.limit:g}"


@dataclass(frozen=True)
class Boxes:
    """Boxes of many images: images [box], numbers of images; corners [box, 4] as left, top, right, bottom.

    Any unit, the same for all. A border is a coordinate, not a pixel: one pixel is a box of side 1.
    """

    images: Numbers
    corners: Floats

    def __len__(self) -> int:
        return len(self.images)


def make_boxes(images: ArrayLike, corners: ArrayLike, number_of_images: int, what: str) -> Boxes:
    """Boxes whose images lie in [0, number_of_images) and whose corners are finite and in order.

    `images` [n] integers, `corners` [n, 4]; `what` names them in errors. Raises `UsageError` for anything else.
    """
    numbers, edges = np.asarray(images), np.asarray(corners, dtype=np.float64)
    if not edges.size:
        edges = edges.reshape(0, 4)
    if numbers.ndim != 1 or edges.shape != (len(numbers), 4):
        raise UsageError(f"{what}: images {numbers.shape} and corners {edges.shape} do not match; give [n] and [n, 4]")
    if len(numbers) and not np.issubdtype(numbers.dtype, np.integer):
        raise UsageError(f"{what}: images are {numbers.dtype}; give integers, the number of each box's image")
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < number_of_images:
        raise UsageError(
            f"{what}: images lie in [{numbers.min()}, {numbers.max()}] where there are {number_of_images}; "
            "count them from 0"
        )
    wrong = ~np.isfinite(edges).all(axis=1) | (edges[:, 2:] < edges[:, :2]).any(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise UsageError(
            f"{what}: {np.count_nonzero(wrong)} of {len(edges)} boxes (first: number {first}, {edges[first].tolist()}) "
            "are not finite or end before they begin; give left, top, right, bottom"
        )
    return Boxes(numbers.astype(np.intp), edges)


def match_detections(
    detections: Boxes, scores: Floats, truths: Boxes, rule: MatchingRule
) -> tuple[Numbers, NDArray[np.bool_]]:
    """(truth found, repeat), each [detection]: the number of the truth or -1; whether it hit only truths found before.

    In each image the detections take truths in order of falling score, each the still unmatched truth of highest
    IoU that it matches. Those of equal score are taken together: of all their pairs with unmatched truths, the
    one of highest IoU first. Pairs of equal IoU go by the distance of the centres and then by the coordinates of the
    truth and of the detection, so that the result never depends on the order of the input.
    """
    one, other, overlap, distance = _matching_pairs(detections, truths, rule)
    order = np.lexsort(
        (*detections.corners[one].T[::-1], *truths.corners[other].T[::-1], distance, -overlap, -scores[one]),
    )
    found = np.full(len(detections), -1, dtype=np.intp)
    taken = bytearray(len(truths))
    for detection, truth in zip(one[order].tolist(), other[order].tolist(), strict=True):
        if found[detection] < 0 and not taken[truth]:
            found[detection] = truth
            taken[truth] = 1
    repeat = np.zeros(len(detections), dtype=np.bool_)
    repeat[one] = True
    repeat[found >= 0] = False
    return found, repeat


def _matching_pairs(detections: Boxes, truths: Boxes, rule: MatchingRule) -> tuple[Numbers, Numbers, Floats, Floats]:
    """(detection, truth, IoU, distance of the centres) of all pairs that match: four arrays [pair]."""
    by_image = np.argsort(truths.images, kind="stable")
    ranked = truths.images[by_image]
    begin = np.searchsorted(ranked, detections.images, side="left")
    number = np.searchsorted(ranked, detections.images, side="right") - begin
    before = np.concatenate([[0], np.cumsum(number)])
    parts = []
    first = 0
    while first < len(detections):
        # As many detections as have `_AT_ONCE` pairs, at least one.
        last = max(first + 1, int(np.searchsorted(before, before[first] + _AT_ONCE, side="right")) - 1)
        one = np.repeat(np.arange(first, last), number[first:last])
        within = np.arange(len(one)) - np.repeat(before[first:last] - before[first], number[first:last])
        other = by_image[begin[one] + within]
        overlap, distance, inside = _compare(detections.corners[one], truths.corners[other])
        if rule.name == "center_in_box":
            kept = inside
        elif rule.name == "iou":
            kept = overlap >= rule.limit
        else:
            kept = distance <= rule.limit
        parts.append((one[kept], other[kept], overlap[kept], distance[kept]))
        first = last
    if not parts:
        nothing = np.zeros(0, dtype=np.intp)
        return nothing, nothing, np.zeros(0), np.zeros(0)
    one, other, overlap, distance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return one, other, overlap, distance


def _compare(detections: Floats, truths: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(IoU, distance of the centres, centre of the detection lies in the truth) of pairs of corners [pair, 4]."""
    common = np.minimum(detections[:, 2:], truths[:, 2:]) - np.maximum(detections[:, :2], truths[:, :2])
    intersection = common.clip(0).prod(axis=1)
    union = _areas(detections) + _areas(truths) - intersection
    overlap = np.divide(intersection, union, out=np.zeros(len(union)), where=union > 0)
    centers = (detections[:, :2] + detections[:, 2:]) / 2
    within = (truths[:, :2] <= centers) & (centers <= truths[:, 2:])
    inside: NDArray[np.bool_] = within[:, 0] & within[:, 1]
    distance = np.hypot(*(centers - (truths[:, :2] + truths[:, 2:]) / 2).T)
    return overlap, distance, inside


def _areas(corners: Floats) -> Floats:
    areas: Floats = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    return areas
