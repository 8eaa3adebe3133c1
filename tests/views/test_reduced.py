"""Views from a reduced read are the views of the whole image; energies are those of what it shows."""

from __future__ import annotations

import numpy as np
import pytest
from samples import textured
from scipy import ndimage
from test_render import references, rendered

from scoutview.batches.loader import ViewSample, collate_views
from scoutview.batches.sampler import Draw
from scoutview.images import BAND_SIGMAS, band_energies, radial_spectrum
from scoutview.store.codec import decode, encode
from scoutview.views import (
    ViewParameters,
    ViewSettings,
    canvas_of,
    draw_parameters,
    draw_scale,
    on_reduced,
    read_level,
    render_views,
)

UNIT = 8000


def reduced(image: np.ndarray, level: int) -> np.ndarray:
    """The reduced decode of an image in [0, 1]."""
    return (decode(encode((image * UNIT).astype(np.int16)), level) / np.float32(UNIT)).astype(np.float32)


def rendered_from(image: np.ndarray, parameters: ViewParameters, level: int, sizes: list[int]) -> list[np.ndarray]:
    small = reduced(image, level)
    parameters = on_reduced(parameters, level)
    sample = ViewSample(Draw(0, 0, 0), canvas_of(small), parameters, level)
    return [group.numpy() for group in render_views(collate_views([sample]).views, sizes)]


def parameters_at(image: np.ndarray, level: int, step: int, **changes: float) -> tuple[ViewSettings, ViewParameters]:
    """Views whose largest is just smaller than the read at `level`, most of them."""
    side = min(image.shape) / 2**level
    settings = ViewSettings(crops=(2, 2), sizes=(64, 48), visible=((64 / side, 0.9), (64 / side, 0.9)), **changes)
    parameters = draw_parameters(
        settings, image.shape, radial_spectrum(image), references(), seed=1, step=step, position=0, level=level
    )
    return settings, parameters


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1024, 1200), (1031, 1277)])
def test_views_of_a_smooth_image_are_the_same(level: int, shape: tuple[int, int]) -> None:
    image = 0.8 * textured(np.random.default_rng(level), *shape, 2.2) + 0.1
    for step in range(3):
        settings, parameters = parameters_at(image, level, step)
        assert float(parameters.scale.max()) <= 1 / 2**level
        whole = rendered([image], [parameters], settings.view_sizes())
        part = rendered_from(image, parameters, level, settings.view_sizes())
        for one, other in zip(whole, part, strict=True):
            assert np.sqrt(np.square(one - other).mean()) < 0.001
            assert np.abs(one - other).max() < 0.01


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_spot_lies_at_the_same_place_of_the_crop(level: int) -> None:
    y, x = np.mgrid[0:1024, 0:1100]
    spot = (0.1 + 0.8 * np.exp(-((y - 500.3) ** 2 + (x - 620.8) ** 2) / (2 * 30.0**2))).astype(np.float32)
    scale = 0.9 / 2**level
    crop = ViewParameters(
        *(np.full(1, value, np.float32) for value in (scale, 500.3 * scale - 30, 620.8 * scale - 35)),
        np.ones((1, 6), np.float32),
        *(np.full(1, value, np.float32) for value in (1, 1, 0)),
    )

    def centre(view: np.ndarray) -> np.ndarray:
        weight = np.clip(view - 0.2, 0, None)
        return np.array([(weight * axis).sum() for axis in np.mgrid[0:64, 0:64]]) / weight.sum()

    (whole,), (part,) = rendered([spot], [crop], [64]), rendered_from(spot, crop, level, [64])
    np.testing.assert_allclose(centre(part[0, 0, 0]), centre(whole[0, 0, 0]), atol=0.01)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("slope", [0.0, 1.1, 1.6])
@pytest.mark.parametrize("relative", [0.97, 0.75, 0.4])
def test_energies_are_those_of_the_reduced_image_rescaled(level: int, slope: float, relative: float) -> None:
    """slope 0 is white noise, most of which the wavelet folds."""
    image = textured(np.random.default_rng(level), 1200, 1200, slope)
    small = reduced(image, level)
    side = int(min(small.shape) * relative)
    values = {"scale": relative / 2**level, "bands": np.ones(6), "gamma": 1.0, "gain": 1.0}
    names = ("scale", "top", "left", "bands", "gamma", "gain", "bias")
    whole = ViewParameters(*(np.asarray([values.get(name, 0.0)], np.float32) for name in names))
    ((view,),) = (group[:, 0, 0] for group in rendered_from(image, whole, level, [side]))
    direct = []
    for sigma in BAND_SIGMAS[:3]:
        smoother = ndimage.gaussian_filter(view.astype(np.float64), sigma, mode="reflect", truncate=8)
        direct.append((view - smoother).std())
        view = smoother
    energies = band_energies(radial_spectrum(image), relative / 2**level, level)[:3]
    above_rounding = np.array(direct) > 8 / UNIT
    assert above_rounding[0]
    ratio = (energies / np.array(direct))[above_rounding]
    assert abs(ratio[0] - 1) < 0.05
    assert (np.abs(ratio[1:] - 1) < 0.03).all()


def test_the_level_is_the_coarsest_that_has_the_pixels() -> None:
    assert read_level((2000, 2500), 0.51, 3) == 0
    assert read_level((2000, 2500), 0.5, 3) == 1
    assert read_level((2000, 2500), 0.3, 3) == 1
    assert read_level((2000, 2500), 0.25, 3) == 2
    assert read_level((2000, 2500), 0.01, 3) == 3
    assert read_level((2000, 2500), 0.01, 1) == 1
    assert read_level((256, 2500), 0.01, 3) == 1
    assert read_level((255, 2500), 0.01, 3) == 0


def test_the_largest_scale_is_known_before_the_image() -> None:
    for settings in (ViewSettings(), ViewSettings(visible=((0.6, 1.0), (0.35, 0.6)), sizes=(64, 32))):
        for shape in ((2000, 2500), (300, 512), (60, 90)):
            for step in range(20):
                key = {"seed": 5, "step": step, "position": 2}
                drawn = draw_parameters(settings, shape, radial_spectrum(np.zeros((8, 8))), references(), **key)
                assert np.float32(draw_scale(settings, shape, **key)) == drawn.scale.max()
