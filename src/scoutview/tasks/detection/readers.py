"""Boxes that several readers drew around the same finding, made one (weighted box fusion, Solovyev et al. 2021).

All readers weigh the same and state no confidence. So fusion starts where two readers agree best, not with the box
of highest confidence, and does not depend on the order of the readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoutview.errors import UsageError
from scoutview.store import Annotation

OVERLAP = 0.4
"""Least IoU of boxes that mean the same finding: readers draw the outline of a faint one differently."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class FusedBox:
    """A finding: corners (left, top, right, bottom) in px, the mean of the readers that saw it; the share of all."""

    corners: Corners
    agreement: float


def fuse_annotations(annotations: Sequence[Annotation], overlap: float = OVERLAP) -> list[FusedBox]:
    """`fuse_readers` of all boxes about one finding in one image.

    An annotation without coordinates (value "0") says that its reader searched and found none: it votes against.

    Raises:
        UsageError: if the annotations are not boxes, or not of one image and one finding.
    """
    about = sorted({(entry.target, entry.kind, entry.name) for entry in annotations})
    if len(about) > 1 or any(kind != "box" for _, kind, _ in about):
        raise UsageError(f"annotations about {about}: give the boxes of one finding in one image")
    drawn = [entry for entry in annotations if entry.value == "1"]
    corners = [_corners(entry) for entry in drawn]
    readers = [entry.reader for entry in drawn]
    return fuse_readers(corners, readers, len({entry.reader for entry in annotations}), overlap)


def fuse_readers(
    corners: npt.ArrayLike, readers: Sequence[str], searched: int, overlap: float = OVERLAP
) -> list[FusedBox]:
    """The findings that more than half of `searched` readers saw, by falling agreement, then by coordinates.

    corners [box, 4] of one class in px; readers: who drew each; searched: how many readers looked, with or without a
    box. Groups grow from single boxes: of all pairs of groups without a reader in common, the two whose mean boxes
    have the highest IoU become one, until none reaches `overlap`. So a reader is in a group once, and two findings
    of one reader stay two. The box of a group is the mean of its corners.

    Raises:
        UsageError: if there are more readers than searched, or shapes that do not match.
    """
    boxes = np.asarray(corners, dtype=np.float64).reshape(-1, 4)
    if len(boxes) != len(readers) or len(set(readers)) > searched:
        raise UsageError(
            f"{len(boxes)} boxes, {len(readers)} names of readers, {searched} that searched: give one reader per box, "
            "and count all that looked"
        )
    # By coordinates and reader: then the first of equal pairs is always the same one.
    order = sorted(range(len(boxes)), key=lambda place: (*boxes[place].tolist(), readers[place]))
    groups = [frozenset([place]) for place in order]
    while (pair := _nearest(groups, boxes, readers, overlap)) is not None:
        one, other = pair
        groups = [group for group in groups if group not in (one, other)] + [one | other]
        groups.sort(key=lambda group: (*_mean(boxes, group), min(readers[place] for place in group)))
    fused = [FusedBox(_mean(boxes, group), len(group) / searched) for group in groups if 2 * len(group) > searched]
    return sorted(fused, key=lambda box: (-box.agreement, box.corners))


def _corners(entry: Annotation) -> Corners:
    x, y, width, height = (value or 0.0 for value in (entry.x, entry.y, entry.width, entry.height))
    return x, y, x + width, y + height


def _nearest(
    groups: Sequence[frozenset[int]], boxes: npt.NDArray[np.float64], readers: Sequence[str], overlap: float
) -> tuple[frozenset[int], frozenset[int]] | None:
    """The two groups that become one next, the first of equals."""
    names = [{readers[place] for place in group} for group in groups]
    means = [_mean(boxes, group) for group in groups]
    best, pair = overlap, None
    for a in range(len(groups)):
        for b in range(a + 1, len(groups)):
            if not names[a] & names[b]:
                value = _overlap(means[a], means[b])
                if value > best or (pair is None and value == best):
                    best, pair = value, (groups[a], groups[b])
    return pair


def _mean(boxes: npt.NDArray[np.float64], group: frozenset[int]) -> Corners:
    """In the order of the coordinates, so that the last bit does not depend on that of the readers."""
    ordered = sorted(boxes[place].tolist() for place in group)
    left, top, right, bottom = (sum(values) / len(ordered) for values in zip(*ordered, strict=True))
    return left, top, right, bottom


def _overlap(a: Corners, b: Corners) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0
