"""Rendered views against float64 evaluations of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
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
    canvas_of,
    draw_parameters,
    layout,
    network_input,
    render_views,
    rescale,
)
from scoutview.views.canvas import BORDER, UNIT, level_shapes
from scoutview.views.parameters import ViewSize, in_plane


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


def rendered(images: list[np.ndarray], parameters: list[ViewParameters], sizes: list[ViewSize]) -> list[np.ndarray]:
    samples = []
    for number, (image, parameter) in enumerate(zip(images, parameters, strict=True)):
        samples.append(ViewSample(Draw(0, number, number), canvas_of(image), parameter))
    batch = collate_views(samples)
    return [group.numpy() for group in render_views(batch.views, sizes)]


def cut_off(frequency: np.ndarray, scale: float) -> np.ndarray:
    """A raised cosine around the Nyquist frequency of the view, or of the image where that is lower."""
    return 0.5 + 0.5 * np.cos(np.clip(frequency / min(scale, 1.0) / np.pi - 0.5, 0, 1) * np.pi)


def definition(image: np.ndarray, parameter: ViewParameters, view: int, size: ViewSize) -> np.ndarray:
    """The view in float64: cosine series of the anti-aliased image, filtered bands, gamma, a I + b, crop."""
    rows, columns = image.shape
    scale = float(parameter.scale[view])
    coefficients = fft.dctn(image.astype(np.float64), norm="ortho")
    vertical, horizontal = np.pi * np.arange(rows) / rows, np.pi * np.arange(columns) / columns
    squared = np.add.outer(vertical**2, horizontal**2)
    blur = np.exp(-(prefilter_sigma(scale) ** 2) * squared / 2)
    blur *= np.outer(cut_off(vertical, scale), cut_off(horizontal, scale))
    transfer = np.zeros_like(blur)
    level = np.ones_like(blur)
    for sigma, weight in zip(BAND_SIGMAS, parameter.bands[view], strict=False):
        lower = level * np.exp(-((sigma / scale) ** 2) * squared / 2)
        transfer += weight * (level - lower)
        level = lower
    transfer += parameter.bands[view][5] * level
    transfer[0, 0] = 1.0
    filtered = coefficients * blur * transfer

    def basis(length: int, side: int, corner: float) -> np.ndarray:
        positions = (corner + np.arange(side) + 0.5) / scale
        cosines = np.cos(np.outer(positions, np.pi * np.arange(length) / length)) * np.sqrt(2 / length)
        cosines[:, 0] = np.sqrt(1 / length)
        return cosines

    high, wide = in_plane(size)
    crop = basis(rows, high, float(parameter.top[view])) @ filtered
    crop = crop @ basis(columns, wide, float(parameter.left[view])).T
    return finish(crop, parameter, view)


def finish(crop: np.ndarray, parameter: ViewParameters, view: int) -> np.ndarray:
    crop = np.clip(crop, 0, 1) ** float(parameter.gamma[view])
    return crop * float(parameter.gain[view]) + float(parameter.bias[view])


def by_scipy(image: np.ndarray, parameter: ViewParameters, view: int, size: int) -> np.ndarray:
    """The view without the cut at its Nyquist frequency: Gaussians at full resolution, splines between pixels."""
    scale = float(parameter.scale[view])
    places = np.stack(
        np.meshgrid(
            (parameter.top[view] + np.arange(size) + 0.5) / scale - 0.5,
            (parameter.left[view] + np.arange(size) + 0.5) / scale - 0.5,
            indexing="ij",
        )
    )
    level = ndimage.gaussian_filter(image.astype(np.float64), prefilter_sigma(scale), mode="reflect", truncate=8)
    total = np.zeros_like(level)
    for sigma, weight in zip(BAND_SIGMAS, parameter.bands[view], strict=False):
        lower = ndimage.gaussian_filter(level, sigma / scale, mode="reflect", truncate=8)
        total += weight * (level - lower)
        level = lower
    last = float(parameter.bands[view][5])
    total += last * level + (1 - last) * image.mean(dtype=np.float64)
    return finish(ndimage.map_coordinates(total, places, order=5, mode="reflect"), parameter, view)


def inside(parameter: ViewParameters, view: int, size: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the view that are 3 sigma of the widest Gaussian from the image's borders, as an index."""
    margin = 3 * np.sqrt(np.square(BAND_SIGMAS).sum())
    scale = float(parameter.scale[view])
    kept = []
    for corner, length in zip((parameter.top[view], parameter.left[view]), shape, strict=True):
        place = corner + np.arange(size) + 0.5
        kept.append(np.flatnonzero((place > margin) & (place < length * scale - margin)))
    return np.ix_(*kept)


def references() -> ReferenceEnergies:
    grid = np.geomspace(32, 1200, 16)
    mean = np.tile([0.01, 0.02, 0.03, 0.04, 0.05, 0.15], (16, 1))
    return ReferenceEnergies(grid, mean, mean / 4)


PAPER = ViewSettings(energy=1.0)
SMALL = ViewSettings(crops=(2, 3), sizes=(64, 32), visible=((0.15, 0.6), (0.1, 0.4)), energy=1.0)


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        pytest.param(PAPER, [(1024, 1024), (1400, 1211)], id="the paper's"),
        pytest.param(SMALL, [(512, 512), (640, 393), (300, 271)], id="small crops"),
    ],
)
@pytest.mark.parametrize("slope", [1.0, 1.6])
def test_views_equal_float64_references_at_full_resolution(
    settings: ViewSettings, shapes: list[tuple[int, int]], slope: float
) -> None:
    """Largest error 1% of the range, but for 3 sigma at the image's borders; without the cut 3%."""
    generator = np.random.default_rng(0)
    images = [textured(generator, *shape, slope) for shape in shapes]
    parameters = [
        draw_parameters(settings, image.shape, radial_spectrum(image), references(), seed=3, step=7, position=place)
        for place, image in enumerate(images)
    ]
    sizes = settings.view_sizes()
    views = [view for group in rendered(images, parameters, sizes) for view in group[:, :, 0]]
    compared = 0
    for place, (image, parameter) in enumerate(zip(images, parameters, strict=True)):
        for number, size in enumerate(sizes):
            kept = inside(parameter, number, size, image.shape)
            error = np.abs(views[number][place] - definition(image, parameter, number, size))
            assert error[kept].max(initial=0.0) < 0.01
            assert error.max() < 0.03
            compared += error[kept].size
            if number == 0:
                other = by_scipy(image, parameter, number, size)
                assert np.abs(views[number][place] - other)[kept].max(initial=0.0) < 0.03
    assert compared > 10_000


def test_rectangular_views_equal_their_definition_and_are_parts_of_square_ones() -> None:
    generator = np.random.default_rng(4)
    images = [textured(generator, *shape, 1.2) for shape in ((224, 192), (512, 300), (200, 420))]
    settings = ViewSettings(crops=(2, 3), sizes=((112, 96), (40, 72)), short_sides=(96.0, 200.0), energy=0.7)
    parameters = [
        draw_parameters(settings, image.shape, radial_spectrum(image), references(), seed=3, step=7, position=place)
        for place, image in enumerate(images)
    ]
    large, small = rendered(images, parameters, settings.view_sizes())
    assert (large.shape, small.shape) == ((2, 3, 1, 112, 96), (3, 3, 1, 40, 72))
    square = rendered(images, parameters, [96, 96, 72, 72, 72])
    for place, (image, parameter) in enumerate(zip(images, parameters, strict=True)):
        for number, size in enumerate(settings.view_sizes()):
            view = (large[number] if number < 2 else small[number - 2])[place, 0]
            whole = square[0][number, place, 0] if number < 2 else square[1][number - 2, place, 0]
            part = min(len(view), len(whole))
            # Only the blocks differ in which the products are made.
            np.testing.assert_allclose(view[:part], whole[:part], atol=1e-3)
            error = np.abs(view - definition(image, parameter, number, size))
            assert np.sqrt(np.square(error).mean()) < 0.01
            assert error.max() < 0.06


def test_tiny_images_are_all_border_and_still_near_their_definition() -> None:
    generator = np.random.default_rng(0)
    images = [textured(generator, *shape) for shape in ((150, 210), (97, 96), (256, 181), (60, 90), (33, 32))]
    settings = ViewSettings(crops=(2, 2), sizes=(64, 32), visible=((0.4, 1.0), (0.2, 0.6)), energy=1.0)
    parameters = [
        draw_parameters(settings, image.shape, radial_spectrum(image), references(), seed=3, step=7, position=place)
        for place, image in enumerate(images)
    ]
    large, small = rendered(images, parameters, settings.view_sizes())
    for place, (image, parameter) in enumerate(zip(images, parameters, strict=True)):
        for view in range(2):
            for views, size, number in ((large, 64, view), (small, 32, view + 2)):
                error = np.abs(views[view, place, 0] - definition(image, parameter, number, size))
                assert np.sqrt(np.square(error).mean()) < (0.01 if min(image.shape) >= 60 else 0.03)
                assert error.max() < 0.06


def test_nothing_drawn_and_scale_one_is_the_image_itself() -> None:
    image = textured(np.random.default_rng(1), 80, 100)
    parameters = flat_parameters(2, top=[0, 16], left=[0, 36])
    (views,) = rendered([image], [parameters], [64, 64])
    # A pixel of a canvas is an int16, cut off.
    np.testing.assert_allclose(views[0, 0, 0], image[:64, :64], atol=4e-5)
    np.testing.assert_allclose(views[1, 0, 0], image[16:80, 36:100], atol=4e-5)


def test_a_level_of_a_canvas_is_the_image_rescaled() -> None:
    image = textured(np.random.default_rng(2), 512, 384, 1.2)
    canvas = canvas_of(image)
    starts, widths = layout([image.shape])
    for level, (rows, columns) in enumerate(level_shapes(image.shape)[:5]):
        first, width = starts[0, level], widths[0, level]
        held = canvas.pixels[first : first + rows * width].reshape(rows, width)[:, :columns] / UNIT
        # The rescale cuts off at the new Nyquist frequency, which halving folds a little of.
        assert np.sqrt(np.square(held - rescale(image, rows, columns)).mean()) < 0.004
        bordered = canvas.pixels[first - BORDER * width - BORDER :][: (rows + 2 * BORDER) * width]
        inner = bordered.reshape(rows + 2 * BORDER, width)[BORDER:-BORDER, BORDER:-BORDER]
        np.testing.assert_array_equal(
            bordered.reshape(-1, width), np.pad(inner, BORDER, mode="symmetric"), err_msg=str(level)
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_views_of_the_cpu() -> None:
    generator = np.random.default_rng(6)
    images = [textured(generator, 512 + 64 * place, 700) for place in range(8)]
    parameters = [
        draw_parameters(PAPER, image.shape, radial_spectrum(image), references(), seed=0, step=0, position=place)
        for place, image in enumerate(images)
    ]
    samples = [
        ViewSample(Draw(0, place, place), canvas_of(image), parameter)
        for place, (image, parameter) in enumerate(zip(images, parameters, strict=True))
    ]
    batch = collate_views(samples).views
    device = torch.device("cuda")
    for one, other in zip(
        render_views(batch, PAPER.view_sizes()), render_views(batch.to(device), PAPER.view_sizes()), strict=True
    ):
        assert float((one - other.cpu()).abs().max()) < 1e-3


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
