"""Locations and targets against loops over every location and box."""

from __future__ import annotations

import fcos_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoutview.errors import UsageError
from scoutview.tasks.detection import assign_targets, make_locations
from scoutview.tasks.detection.targets import NOTHING


def shapes_of(rows: int, columns: int) -> list[tuple[int, int]]:
    """Of the maps of an image, each stride rounding up."""
    return [(-(-rows // stride), -(-columns // stride)) for stride in reference.STRIDES]


def check(shape: tuple[int, int], boxes: list[list[reference.Box]], classes: list[list[int]]) -> torch.Tensor:
    """Compare a batch with the reference; the classes found [image, location]."""
    places = reference.locations(shapes_of(*shape))
    found = assign_targets(
        make_locations(shapes_of(*shape)),
        [torch.tensor(own, dtype=torch.float32).reshape(-1, 4) for own in boxes],
        [torch.tensor(own, dtype=torch.long) for own in classes],
    )
    for image, (own, names) in enumerate(zip(boxes, classes, strict=True)):
        expected = [reference.target(*place, own) for place in places]
        numbers = [NOTHING if number < 0 else names[number] for number, _, _ in expected]
        np.testing.assert_array_equal(found.classes[image], numbers)
        np.testing.assert_allclose(found.distances[image], [each for _, each, _ in expected], atol=1e-5)
        np.testing.assert_allclose(found.centerness[image], [each for _, _, each in expected], atol=1e-5)
    return found.classes


@pytest.mark.parametrize("shape", [(256, 256), (250, 131), (64, 300), (1024, 7)])
def test_locations_equal_a_loop(shape: tuple[int, int]) -> None:
    expected = reference.locations(shapes_of(*shape))
    found = make_locations(shapes_of(*shape))
    np.testing.assert_array_equal(found.points, [(x, y) for x, y, _, _ in expected])
    np.testing.assert_array_equal(found.strides, [stride for *_, stride in expected])
    np.testing.assert_array_equal(found.ranges, [reference.UP_TO[level : level + 2] for _, _, level, _ in expected])
    assert sum(found.sizes) == len(expected)


@pytest.mark.parametrize("seed", range(4))
def test_random_boxes_on_images_that_are_not_square(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = [(256, 256), (384, 200), (130, 517), (1024, 640)][seed]
    boxes, classes = [], []
    for image in range(3):
        corners = generator.uniform(0, 0.8, (4 * image, 2)) * shape[::-1]
        sides = generator.uniform(0.05, 1, (4 * image, 2)) * (np.asarray(shape[::-1]) - corners)
        own = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        boxes.append([tuple(float(v) for v in box) for box in own])
        classes.append(generator.integers(0, 3, 4 * image).tolist())
    found = check(shape, boxes, classes)
    assert (found[0] == NOTHING).all()  # no box at all
    assert (found[2] != NOTHING).any()


# Multiples of 2 px, so that points fall on borders of boxes, of ranges and of the centre region.
EDGE = st.integers(0, 150).map(lambda v: 2.0 * v)
BOX = (
    st.tuples(EDGE, EDGE, EDGE, EDGE)
    .filter(lambda c: c[0] != c[2] and c[1] != c[3])
    .map(lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(BOX, st.integers(0, 2)), max_size=5))
def test_boxes_on_borders(entries: list[tuple[reference.Box, int]]) -> None:
    check((192, 304), [[box for box, _ in entries]], [[name for _, name in entries]])


@pytest.mark.parametrize(
    ("half", "level"), [(60, 0), (64, 0), (65, 1), (128, 1), (129, 2), (256, 2), (257, 3), (512, 3), (513, 4)]
)
def test_a_distance_on_the_border_of_a_range_belongs_to_the_lower_level(half: int, level: int) -> None:
    """A point of every level is the centre of the box, so that the largest distance is half of its side."""
    locations = make_locations(shapes_of(1024, 1024))
    counts = []
    for own, stride in enumerate(reference.STRIDES):
        center = stride // 2 + stride * (512 // stride)
        box = torch.tensor([[center - half, center - 20.0, center + half, center + 20.0]])
        found = assign_targets(locations, [box], [torch.tensor([0])]).classes[0]
        at_center = ((locations.points == center).all(1) & (locations.strides == stride)).nonzero().item()
        counts.append(found[at_center].item() == 0)
        assert counts[-1] == (own == level)


def test_the_smallest_of_overlapping_boxes_is_taken_and_of_equal_ones_the_first() -> None:
    large, small = (0.0, 0.0, 100.0, 60.0), (20.0, 10.0, 80.0, 50.0)
    for boxes, classes in (([large, small], [0, 1]), ([small, large], [1, 0])):
        found = check((64, 128), [boxes], [classes])
        center = make_locations(shapes_of(64, 128)).points.sub(torch.tensor([52.0, 28.0])).abs().sum(1).argmin()
        assert found[0, center] == 1
    found = check((64, 128), [[small, small]], [[2, 1]])
    assert set(found[0].tolist()) == {NOTHING, 2}


def test_a_box_between_the_points_is_nobodys() -> None:
    found = check((64, 64), [[(5.0, 5.0, 11.0, 11.0)]], [[0]])
    assert (found == NOTHING).all()
    assert (check((64, 64), [[(3.0, 3.0, 11.0, 11.0)]], [[0]]) == 0).sum() == 1


def test_wrong_boxes_are_named() -> None:
    locations = make_locations(shapes_of(64, 64))
    for box in ([3.0, 3.0, 3.0, 9.0], [9.0, 3.0, 3.0, 9.0]):
        with pytest.raises(UsageError, match="each box with an area"):
            assign_targets(locations, [torch.tensor([box])], [torch.tensor([0])])
    with pytest.raises(UsageError, match="each box with an area"):
        assign_targets(locations, [torch.rand(2, 4)], [torch.tensor([0])])
