"""Boxes of several readers against a plain search over all pairs, and by hand."""

from __future__ import annotations

import itertools

import fcos_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoutview.errors import UsageError
from scoutview.store import Annotation
from scoutview.tasks.detection import FusedBox, fuse_annotations, fuse_readers

Drawn = list[tuple[reference.Box, str]]


def brute(drawn: Drawn, searched: int, limit: float) -> list[tuple[tuple[float, ...], float]]:
    """Groups as lists of (box, reader); at every turn all pairs are compared and the best one is joined."""
    groups = [[entry] for entry in drawn]

    def mean(group: Drawn) -> tuple[float, ...]:
        return tuple(float(value) for value in np.mean([box for box, _ in sorted(group)], axis=0))

    def key(group: Drawn) -> tuple[tuple[float, ...], str]:
        return mean(group), min(reader for _, reader in group)

    while True:
        possible = []
        for a, b in itertools.combinations(groups, 2):
            if {reader for _, reader in a}.isdisjoint({reader for _, reader in b}):
                value = reference.overlap(mean(a), mean(b))
                if value >= limit:
                    first, second = sorted([key(a), key(b)])
                    possible.append((-value, first, second, a, b))
        if not possible:
            break
        *_, a, b = min(possible, key=lambda entry: entry[:3])
        groups = [group for group in groups if group is not a and group is not b] + [a + b]
    kept = [(mean(group), len(group) / searched) for group in groups if len(group) > searched / 2]
    return sorted(kept, key=lambda entry: (-entry[1], entry[0]))


EDGE = st.integers(0, 8).map(float)
BOX = st.tuples(EDGE, EDGE, st.integers(1, 6).map(float), st.integers(1, 6).map(float)).map(
    lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
)
DRAWN = st.lists(st.tuples(BOX, st.sampled_from("abcd")), max_size=7)


@settings(max_examples=200, deadline=None)
@given(DRAWN, st.integers(0, 2), st.sampled_from([0.1, 0.4, 0.55]))
def test_equals_a_search_over_all_pairs(drawn: Drawn, silent: int, limit: float) -> None:
    searched = len({reader for _, reader in drawn}) + silent
    found = fuse_readers([box for box, _ in drawn], [reader for _, reader in drawn], searched, limit)
    expected = brute(drawn, searched, limit)
    assert len(found) == len(expected)
    for box, (corners, agreement) in zip(found, expected, strict=True):
        assert box.corners == pytest.approx(corners)
        assert box.agreement == pytest.approx(agreement)


@settings(max_examples=100, deadline=None)
@given(DRAWN, st.randoms())
def test_the_order_changes_nothing(drawn: Drawn, random: object) -> None:
    other = list(drawn)
    random.shuffle(other)  # type: ignore[attr-defined]
    one, two = (fuse_readers([box for box, _ in each], [r for _, r in each], 4) for each in (drawn, other))
    assert one == two


@settings(max_examples=50, deadline=None)
@given(st.lists(BOX, max_size=6))
def test_one_reader_keeps_all_boxes(boxes: list[reference.Box]) -> None:
    found = fuse_readers(boxes, ["a"] * len(boxes), 1)
    assert [box.corners for box in found] == sorted(boxes)
    assert all(box.agreement == 1 for box in found)


def box(reader: str, x: float, value: str = "1", name: str = "nodule") -> Annotation:
    if value == "0":
        return Annotation("image", "box", name, "0", reader=reader)
    return Annotation("image", "box", name, "1", x, 10.0, 20.0, 20.0, reader)


def test_two_of_three_readers_are_enough_and_half_of_two_are_not() -> None:
    near = [box("a", 10), box("b", 14), box("c", 0, "0")]
    assert fuse_annotations(near) == [FusedBox((12.0, 10.0, 32.0, 30.0), 2 / 3)]
    assert fuse_annotations([box("a", 10), box("c", 0, "0")]) == []
    assert fuse_annotations([box("c", 0, "0")]) == []
    assert fuse_annotations([]) == []
    # Far apart: each was seen by one of two.
    assert fuse_annotations([box("a", 10), box("b", 60)]) == []


def test_two_boxes_of_a_reader_stay_two() -> None:
    found = fuse_annotations([box("a", 10), box("a", 16), box("b", 10), box("b", 17)])
    assert [each.corners[0] for each in found] == [10.0, 16.5]


def test_other_statements_are_refused() -> None:
    with pytest.raises(UsageError, match="one finding in one image"):
        fuse_annotations([box("a", 1), box("b", 1, name="mass")])
    with pytest.raises(UsageError, match="one finding in one image"):
        fuse_annotations([Annotation("image", "label", "nodule", "1")])
    with pytest.raises(UsageError, match="count all that looked"):
        fuse_readers([[0, 0, 1, 1]] * 2, ["a", "b"], 1)
