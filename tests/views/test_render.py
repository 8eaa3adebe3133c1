"""Rendered views against float64 evaluations of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from samples import textured
from scipy import fft, ndimage

from scoutview.batches.loader import ViewSample, collate_views
from scoutview.batches.sampler import Draw
from scoutview.images import BAND_SIGMAS, radial_spectrum
from scoutview.images.spectrum import prefilter_sigma
from scoutview.views import (
    ReferenceEnergies,
    ViewParameters,
    ViewSettings,
    draw_parameters,
    image_coefficients,
    needed_frequencies,
    network_input,
    render_views,
    rescale,
)


def flat_parameters(views: int, **changes: object) -> ViewParameters:
    values = {
        "scale": np.ones(views),
        "top": np.zeros(views),
        "left": np.zeros(views),
        "bands": np.ones((views, 6)),
        "gamma": np.ones(views),
        "gain": np.ones(views),
        "bias": np.zeros(views),
    }
    return ViewParameters(**{key: np.asarray(value, np.float32) for key, value in {**values, **changes}.items()})


def rendered(images: list[np.ndarray], parameters: list[ViewParameters], sizes: list[int]) -> list[np.ndarray]:
    samples = []
    for number, (image, parameter) in enumerate(zip(images, parameters, strict=True)):
        kept = needed_frequencies(image.shape, float(parameter.scale.max()))
        samples.append(ViewSample(Draw(0, number, number), image.shape, image_coefficients(image, kept), parameter))
    batch = collate_views(samples, 1)
    return [group.numpy() for group in render_views(batch.views, sizes)]


def definition(image: np.ndarray, parameter: ViewParameters, view: int, size: int) -> np.ndarray:
    """The view in float64: cosine series of the anti-aliased image, filtered bands, gamma, a I + b, crop."""
    rows, columns = image.shape
    scale = float(parameter.scale[view])
    coefficients = fft.dctn(image.astype(np.float64), norm="ortho")
    vertical, horizontal = np.pi * np.arange(rows) / rows, np.pi * np.arange(columns) / columns
    blur = np.exp(-(prefilter_sigma(scale) ** 2) * np.add.outer(vertical**2, horizontal**2) / 2)
    if scale < 1:
        blur *= np.logical_and.outer(vertical / scale <= np.pi, horizontal / scale <= np.pi)
    transfer = np.zeros_like(blur)
    level = np.ones_like(blur)
    for sigma, weight in zip(BAND_SIGMAS, parameter.bands[view], strict=False):
        lower = level * np.exp(-((sigma / scale) ** 2) * np.add.outer(vertical**2, horizontal**2) / 2)
        transfer += weight * (level - lower)
        level = lower
    transfer += parameter.bands[view][5] * level
    transfer[0, 0] = 1.0
    filtered = coefficients * blur * transfer

    def basis(length: int, corner: float) -> np.ndarray:
        positions = (corner + np.arange(size) + 0.5) / scale
        cosines = np.cos(np.outer(positions, np.pi * np.arange(length) / length)) * np.sqrt(2 / length)
        cosines[:, 0] = np.sqrt(1 / length)
        return cosines

    crop = basis(rows, float(parameter.top[view])) @ filtered @ basis(columns, float(parameter.left[view])).T
    crop = np.clip(crop, 0, 1) ** float(parameter.gamma[view])
    return crop * float(parameter.gain[view]) + float(parameter.bias[view])


def references() -> ReferenceEnergies:
    grid = np.geomspace(32, 1200, 16)
    mean = np.tile([0.01, 0.02, 0.03, 0.04, 0.05, 0.15], (16, 1))
    return ReferenceEnergies(grid, mean, mean / 4)


def test_views_equal_their_definition() -> None:
    generator = np.random.default_rng(0)
    images = [textured(generator, *shape) for shape in ((150, 210), (96, 96), (256, 180), (60, 90))]
    settings = ViewSettings(crops=(2, 2), sizes=(64, 32), visible=((0.4, 1.0), (0.2, 0.6)), energy=1.0)
    parameters = [
        draw_parameters(settings, image.shape, radial_spectrum(image), references(), seed=3, step=7, position=place)
        for place, image in enumerate(images)
    ]
    large, small = rendered(images, parameters, settings.view_sizes())
    for place, (image, parameter) in enumerate(zip(images, parameters, strict=True)):
        for view in range(2):
            np.testing.assert_allclose(large[view, place, 0], definition(image, parameter, view, 64), atol=2e-4)
            np.testing.assert_allclose(small[view, place, 0], definition(image, parameter, view + 2, 32), atol=2e-4)


def test_nothing_drawn_and_scale_one_is_the_image_itself() -> None:
    image = textured(np.random.default_rng(1), 80, 100)
    parameters = flat_parameters(2, top=[0, 16], left=[0, 36])
    (views,) = rendered([image], [parameters], [64, 64])
    np.testing.assert_allclose(views[0, 0, 0], image[:64, :64], atol=1e-5)
    np.testing.assert_allclose(views[1, 0, 0], image[16:80, 36:100], atol=1e-5)


def test_energy_augmentation_equals_filtering_the_rescaled_image_directly() -> None:
    """Away from the borders the cascade can be run on the rescaled picture itself, with sampled Gaussians."""
    image = textured(np.random.default_rng(2), 256, 256)
    bands = [0.5, 1.8, 1.2, 0.7, 1.4, 0.9]
    (views,) = rendered([image], [flat_parameters(1, scale=[0.5], bands=[bands])], [128])
    level = rescale(image, 128, 128).astype(np.float64)
    expected = np.zeros_like(level)
    for sigma, weight in zip(BAND_SIGMAS, bands, strict=False):
        lower = ndimage.gaussian_filter(level, sigma, mode="reflect", truncate=8)
        expected += weight * (level - lower)
        level = lower
    expected += bands[5] * (level - level.mean()) + level.mean()
    assert np.abs(views[0, 0, 0] - np.clip(expected, 0, 1)).max() < 0.01


def test_rescale_keeps_mean_and_beats_plain_subsampling() -> None:
    image = textured(np.random.default_rng(5), 240, 180, slope=1.0)
    small = rescale(image, 60, 45)
    assert small.mean() == pytest.approx(image.mean(), abs=1e-6)
    area = image.reshape(60, 4, 45, 4).mean((1, 3))
    subsampled = image[2::4, 2::4]
    assert np.square(small - area).mean() < 0.15 * np.square(subsampled - area).mean()
    np.testing.assert_allclose(rescale(image, 240, 180), image, atol=1e-5)


def test_network_input_shows_the_whole_image_once() -> None:
    image = np.full((50, 100), 0.5, dtype=np.float32)
    square = network_input(image, 64)
    assert square.shape == (64, 64)
    assert (square[:16] == 0).all()
    assert (square[48:] == 0).all()
    np.testing.assert_allclose(square[16:48], 0.5, atol=1e-5)


def test_rendering_does_not_depend_on_the_rest_of_the_batch() -> None:
    generator = np.random.default_rng(6)
    images = [textured(generator, 64 + 8 * place, 96) for place in range(20)]
    settings = ViewSettings(crops=(1, 1), sizes=(48, 32), visible=((0.5, 1.0), (0.3, 0.6)))
    parameters = [
        draw_parameters(settings, image.shape, radial_spectrum(image), references(), seed=0, step=0, position=place)
        for place, image in enumerate(images)
    ]
    together = rendered(images, parameters, settings.view_sizes())
    alone = rendered(images[13:14], parameters[13:14], settings.view_sizes())
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[:, 13], one[:, 0], atol=2e-5)
