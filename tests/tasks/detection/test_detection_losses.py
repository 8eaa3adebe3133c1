"""The loss of FCOS against float64 loops, to 1e-5, and its gradients where there is nothing to find."""

from __future__ import annotations

import fcos_reference as reference
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scoutview.tasks.detection import HeadOutputs, assign_targets, detection_loss, make_locations
from scoutview.tasks.detection.boxes import box_overlaps, generalized_overlaps
from scoutview.tasks.detection.losses import box_loss, focal_loss

SHAPES = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]


def outputs_of(seed: int, images: int, classes: int) -> HeadOutputs:
    generator = torch.Generator().manual_seed(seed)
    locations = make_locations(SHAPES)
    count = len(locations.points)
    return HeadOutputs(
        logits=(3 * torch.randn(images, count, classes, generator=generator)).requires_grad_(),
        distances=(60 * torch.rand(images, count, 4, generator=generator) + 1).requires_grad_(),
        centerness=(2 * torch.randn(images, count, generator=generator)).requires_grad_(),
        locations=locations,
    )


BOXES = [
    [(10.0, 12.0, 60.0, 90.0), (40.0, 5.0, 180.0, 120.0), (100.0, 60.0, 130.0, 100.0)],
    [],
    [(0.0, 0.0, 192.0, 128.0)],
]
NAMES = [[0, 2, 1], [], [1]]


def test_the_whole_loss_equals_loops() -> None:
    outputs = outputs_of(0, 3, 3)
    targets = assign_targets(
        outputs.locations,
        [torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) for boxes in BOXES],
        [torch.tensor(names, dtype=torch.long) for names in NAMES],
    )
    found = detection_loss(outputs, targets)
    logits, distances, centerness = (
        value.detach().double().numpy() for value in (outputs.logits, outputs.distances, outputs.centerness)
    )
    classification = box = center = 0.0
    positives = 0
    for image, (boxes, names) in enumerate(zip(BOXES, NAMES, strict=True)):
        for number, place in enumerate(reference.locations(SHAPES)):
            chosen, _, expected_centerness = reference.target(*place, boxes)
            name = names[chosen] if chosen >= 0 else -1
            classification += reference.focal(logits[image, number][None], np.asarray([name]))
            if chosen < 0:
                continue
            positives += 1
            x, y, *_ = place
            left, top, right, bottom = distances[image, number]
            box += 1 - reference.giou((x - left, y - top, x + right, y + bottom), boxes[chosen])
            center += reference.cross_entropy(centerness[image, number], expected_centerness)
    assert positives == int(found.positives) > 20
    assert found.classification.item() == pytest.approx(classification, rel=1e-5)
    assert found.box.item() == pytest.approx(box, rel=1e-5)
    assert found.centerness.item() == pytest.approx(center, rel=1e-5)
    assert found.mean(found.positives).item() == pytest.approx((classification + box + center) / positives, rel=1e-5)


def test_images_without_boxes_have_a_loss_and_gradients_everywhere() -> None:
    outputs = outputs_of(1, 2, 3)
    nothing = [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.long)] * 2
    found = detection_loss(outputs, assign_targets(outputs.locations, *nothing))
    expected = reference.focal(
        outputs.logits.detach().double().numpy(), np.full((2, len(outputs.locations.points)), -1)
    )
    assert found.mean(found.positives).item() == pytest.approx(expected, rel=1e-5)  # divided by 1, not by 0
    found.mean(found.positives).backward()
    assert outputs.logits.grad is not None
    assert (outputs.logits.grad != 0).all()
    for value in (outputs.distances, outputs.centerness):
        assert value.grad is not None
        assert (value.grad == 0).all()


def test_focal_loss_of_wild_logits_is_finite_and_right() -> None:
    logits = torch.tensor([[-80.0, 80.0], [30.0, -30.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, -1]))
    # Each wrong logit of size z costs alpha_t z, as 1 - p_t is 1; the others cost nothing.
    assert loss.item() == pytest.approx(0.25 * 80 + 0.75 * 80 + 0.75 * 30, rel=1e-5)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_focal_loss_is_cross_entropy_where_gamma_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoutview.tasks.detection.losses.GAMMA", 0.0)
    monkeypatch.setattr("scoutview.tasks.detection.losses.ALPHA", 0.5)
    logits = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.randint(-1, 3, (5, 7), generator=torch.Generator().manual_seed(1))
    right = F.one_hot(classes.clamp_min(0), 3) * (classes >= 0)[..., None]
    expected = F.binary_cross_entropy_with_logits(logits, right.float(), reduction="sum") / 2
    torch.testing.assert_close(focal_loss(logits, classes), expected)


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_equal_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 20, (2, 60, 2))
    boxes = np.concatenate([corners, corners + generator.integers(0, 12, (2, 60, 2))], axis=2).astype(float)
    a, b = torch.tensor(boxes)
    expected = [[reference.overlap(tuple(x), tuple(y)) for y in boxes[1]] for x in boxes[0]]
    np.testing.assert_allclose(box_overlaps(a[:, None], b[None]), expected, atol=1e-12)
    filled = [k for k in range(60) if reference.area(tuple(boxes[0, k])) and reference.area(tuple(boxes[1, k]))]
    expected_giou = [reference.giou(tuple(boxes[0, k]), tuple(boxes[1, k])) for k in filled]
    np.testing.assert_allclose(generalized_overlaps(a[filled], b[filled]), expected_giou, atol=1e-12)


def test_box_loss_of_a_hit_is_0_and_its_gradient_points_to_the_box() -> None:
    expected = torch.tensor([[5.0, 6.0, 7.0, 8.0]])
    assert box_loss(expected, expected).item() == pytest.approx(0, abs=1e-6)
    near = torch.tensor([[4.0, 6.0, 7.0, 9.0]], requires_grad=True)
    box_loss(near, expected).backward()
    assert near.grad[0, 0] < 0 < near.grad[0, 3]
