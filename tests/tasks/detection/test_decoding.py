"""Decoding and suppression against loops over every location, class and box."""

from __future__ import annotations

import fcos_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoutview.errors import UsageError
from scoutview.tasks.detection import Detections, HeadOutputs, case_scores, decode, make_locations
from scoutview.tasks.detection.boxes import suppress

SHAPES = [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]


def outputs_of(seed: int, images: int = 2, classes: int = 3, background: float = 3.0) -> HeadOutputs:
    """Mostly background, with boxes of the size of each level."""
    generator = torch.Generator().manual_seed(seed)
    locations = make_locations(SHAPES)
    count = len(locations.points)
    distances = torch.rand(images, count, 4, generator=generator) * 3 * locations.strides[:, None] + 1
    return HeadOutputs(
        logits=2 * torch.randn(images, count, classes, generator=generator) - background,
        distances=distances,
        centerness=torch.randn(images, count, generator=generator),
        locations=locations,
    )


def check(outputs: HeadOutputs, areas: list[reference.Box], per_level: int = 1000, per_image: int = 100) -> list[int]:
    """Compare with the reference; how many detections each image has."""
    found = decode(outputs, torch.tensor(areas))
    for image, (own, area) in enumerate(zip(found, areas, strict=True)):
        logits, distances, centerness = (
            value[image].double().numpy() for value in (outputs.logits, outputs.distances, outputs.centerness)
        )
        places = reference.locations(SHAPES)
        expected = reference.decoded(logits, distances, centerness, places, area, per_level, per_image)
        assert len(own.scores) == len(expected)
        np.testing.assert_allclose(own.scores, [score for score, _, _ in expected], atol=1e-5)
        np.testing.assert_array_equal(own.classes, [name for _, name, _ in expected])
        np.testing.assert_allclose(own.boxes, np.asarray([box for *_, box in expected]).reshape(-1, 4), atol=1e-4)
    return [len(own.scores) for own in found]


@pytest.mark.parametrize("seed", range(4))
def test_decoding_equals_loops(seed: int) -> None:
    counts = check(outputs_of(seed), [(0.0, 0.0, 160.0, 96.0), (0.0, 0.0, 160.0, 96.0)])
    assert min(counts) > 30


def test_at_most_100_detections() -> None:
    assert check(outputs_of(5, background=0.0), [(0.0, 0.0, 160.0, 96.0)] * 2) == [100, 100]


def test_limits_per_level_and_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoutview.tasks.detection.decoding.PER_LEVEL", 7)
    monkeypatch.setattr("scoutview.tasks.detection.decoding.PER_IMAGE", 20)
    check(outputs_of(6, background=0.0), [(0.0, 0.0, 160.0, 96.0)] * 2, per_level=7, per_image=20)


def test_padding_says_nothing_and_boxes_end_at_the_image() -> None:
    areas = [(0.0, 24.0, 160.0, 72.0), (50.0, 0.0, 110.0, 96.0)]
    outputs = outputs_of(7)
    check(outputs, areas)
    for own, area in zip(decode(outputs, torch.tensor(areas)), areas, strict=True):
        assert (own.boxes[:, :2] >= torch.tensor(area[:2])).all()
        assert (own.boxes[:, 2:] <= torch.tensor(area[2:])).all()


def test_an_image_without_detections() -> None:
    outputs = outputs_of(8, background=30.0)
    assert check(outputs, [(0.0, 0.0, 160.0, 96.0)] * 2) == [0, 0]
    assert (case_scores(decode(outputs, torch.tensor([[0.0, 0.0, 160.0, 96.0]] * 2)), 3) == 0).all()


def test_one_class_does_not_suppress_another() -> None:
    locations = make_locations(SHAPES)
    logits = torch.full((1, len(locations.points), 2), -20.0)
    logits[0, 30] = torch.tensor([2.0, 1.0])
    logits[0, 31, 0] = 1.5
    outputs = HeadOutputs(logits, torch.full((1, len(locations.points), 4), 40.0), logits[..., 0] * 0 + 4, locations)
    found = decode(outputs, torch.tensor([[0.0, 0.0, 160.0, 96.0]]))[0]
    assert found.classes.tolist() == [0, 1]


def test_boxes_that_round_to_nothing_are_none() -> None:
    outputs = outputs_of(9)
    outputs.distances.mul_(1e-12)
    assert [len(own.scores) for own in decode(outputs, torch.tensor([[0.0, 0.0, 160.0, 96.0]] * 2))] == [0, 0]


COORDINATE = st.integers(0, 8).map(float)
ENTRY = st.tuples(
    st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE).map(
        lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
    ),
    st.integers(0, 5).map(float),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ENTRY, max_size=12), st.sampled_from([0.0, 0.25, 0.5, 0.6, 1.0]), st.integers(1, 12))
def test_suppression_equals_a_loop(entries: list[tuple[reference.Box, float]], limit: float, most: int) -> None:
    boxes = torch.tensor([box for box, _ in entries], dtype=torch.float64).reshape(-1, 4)
    scores = torch.tensor([score for _, score in entries], dtype=torch.float64)
    expected = reference.suppressed([(score, 0, box) for box, score in entries], limit)[:most]
    places = suppress(boxes, scores, limit, most)
    assert [(scores[place].item(), 0, tuple(boxes[place].tolist())) for place in places] == expected


def test_the_score_of_a_case_is_that_of_its_best_box() -> None:
    found = [
        Detections(torch.zeros(3, 4), torch.tensor([0.9, 0.4, 0.2]), torch.tensor([2, 0, 2])),
        Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)),
    ]
    torch.testing.assert_close(case_scores(found, 3), torch.tensor([[0.4, 0.0, 0.9], [0.0, 0.0, 0.0]]))


def test_areas_that_do_not_match_are_refused() -> None:
    with pytest.raises(UsageError, match="of 2 images"):
        decode(outputs_of(0), torch.zeros(3, 4))
