"""Transforms of test cases against scipy, and which cases are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import textured
from scipy.ndimage import affine_transform

from scoutview.study.moved import draw_cases
from scoutview.study.transforms import Transform, apply_transform, draw_transforms
from scoutview.tasks import Targets


def by_scipy(image: np.ndarray, transform: Transform) -> np.ndarray:
    """[row, column] turned clockwise as seen (rows run down) and enlarged, by its inverse map, then bilinear."""
    angle = np.deg2rad(transform.angle)
    forward = transform.scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(forward)
    centre = (np.array(image.shape) - 1) / 2
    return affine_transform(
        image.astype(np.float64) ** transform.gamma, inverse, centre - inverse @ centre, order=1, mode="grid-constant"
    )


@pytest.mark.parametrize(
    "transform",
    [
        Transform(),
        Transform(gamma=2.2),
        Transform(angle=10.0),
        Transform(scale=0.9),
        Transform(2.6, -7.5, 1.1),
        Transform(angle=90.0),
    ],
)
@pytest.mark.parametrize("shape", [(40, 40), (40, 56)])
def test_rotation_and_scale_are_those_of_scipy(transform: Transform, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    images = np.stack([textured(generator, *shape) for _ in range(3)])
    moved = apply_transform(torch.from_numpy(images)[:, None], transform)
    for image, found in zip(images, moved[:, 0].numpy(), strict=True):
        np.testing.assert_allclose(found, by_scipy(image, transform), atol=2e-4)


def test_a_positive_angle_turns_clockwise() -> None:
    image = torch.zeros(1, 1, 41, 41)
    image[0, 0, 5, 20] = 1.0  # above the centre
    moved = apply_transform(image, Transform(angle=90.0))[0, 0]
    assert moved[20, 35] == pytest.approx(1.0, abs=1e-3)  # to the right of it


def test_transforms_are_drawn_within_the_ranges_and_always_the_same() -> None:
    drawn = draw_transforms(300)
    assert drawn == draw_transforms(300)
    gamma = [each for each in drawn if each.gamma != 1.0]
    turned = [each for each in drawn if each.angle != 0.0]
    assert all(1.8 <= each.gamma <= 2.6 for each in gamma)
    assert all(-10 <= each.angle <= 10 and 0.9 <= each.scale <= 1.1 for each in turned)
    both = [each for each in gamma if each.angle != 0.0]
    assert all(60 < count < 140 for count in (len(drawn) - len(gamma), len(drawn) - len(turned), len(both)))
    assert max(each.angle for each in turned) > 8
    assert min(each.angle for each in turned) < -8


def test_cases_are_stratified_with_one_of_each_class_at_least() -> None:
    values = np.eye(3, dtype=np.float32)[[0] * 70 + [1] * 29 + [2]]
    test = Targets(("a", "b", "c"), True, tuple(range(100)), values)
    cases = draw_cases(test, 20)
    assert len(set(cases.tolist())) == 20
    assert (np.diff(cases) > 0).all()
    np.testing.assert_allclose(values[cases].sum(0), [13.5, 5.5, 1], atol=1)
    assert (draw_cases(test, 20) == cases).all()
    assert draw_cases(test, 500).tolist() == list(range(100))
    assert set(draw_cases(test, 3).tolist()) >= {99}
