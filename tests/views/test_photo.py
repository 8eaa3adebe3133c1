"""Photo-style augmentation against loops with scipy; drawn behind the other numbers of a view."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from scoutview.images import BANDS
from scoutview.views import PhotoParameters, augment_photo, draw_photo


def test_views_equal_a_loop_with_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = [torch.rand(2, 3, 1, 56, 56, generator=generator), torch.rand(1, 3, 1, 112, 112, generator=generator)]
    parameters = draw_photo(range(3), 3, seed=4, step=2)
    found = augment_photo(groups, parameters)
    for view in range(3):
        group, place = divmod(view, 2)
        for image in range(3):
            expected = groups[group][place, image, 0].double().numpy()
            if parameters.flip[image, view]:
                expected = expected[:, ::-1]
            expected = np.clip(expected * float(parameters.brightness[image, view]), 0, 1)
            mean = expected.mean()
            expected = np.clip((expected - mean) * float(parameters.contrast[image, view]) + mean, 0, 1)
            size = expected.shape[0]
            sigma = float(parameters.blur[image, view]) * size / 224
            if sigma:
                radius = int(np.ceil(6 * size / 224))
                expected = ndimage.gaussian_filter(expected, sigma, mode="mirror", radius=radius)
            np.testing.assert_allclose(found[group][place, image, 0].numpy(), expected, atol=1e-5)


def test_without_flip_jitter_and_blur_views_stay() -> None:
    views = torch.rand(2, 2, 1, 32, 32)
    ones = torch.ones(2, 2)
    (found,) = augment_photo([views], PhotoParameters(ones < 0, ones, ones, 0 * ones))
    torch.testing.assert_close(found, views, atol=1e-6, rtol=0)


def test_draws_follow_those_of_the_other_parameters_and_depend_on_the_position_alone() -> None:
    generator = np.random.Generator(np.random.Philox(key=9, counter=[0, 0, 5, 7]))
    generator.random((4, 9 + BANDS))
    expected = generator.random((4, 6))[:, 0] < 0.5
    together, alone = draw_photo([3, 5], 4, seed=9, step=7), draw_photo([5], 4, seed=9, step=7)
    np.testing.assert_array_equal(alone.flip[0].numpy(), expected)
    for name in ("flip", "brightness", "contrast", "blur"):
        torch.testing.assert_close(getattr(together, name)[1], getattr(alone, name)[0])


def test_each_is_drawn_as_often_and_as_far_as_published() -> None:
    drawn = draw_photo(range(4000), 2, seed=0, step=0)
    assert abs(float(drawn.flip.float().mean()) - 0.5) < 0.03
    changed = drawn.brightness != 1
    assert abs(float(changed.float().mean()) - 0.8) < 0.03
    assert 0.2 <= float(drawn.brightness.min()) < 0.22
    assert 1.78 < float(drawn.contrast.max()) <= 1.8
    assert abs(float((drawn.blur > 0).float().mean()) - 0.5) < 0.03
    assert 1.98 < float(drawn.blur.max()) <= 2.0
