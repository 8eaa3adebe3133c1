"""Rendered views of volumes against float64 evaluations of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import textured, textured_volume
from scipy import fft, ndimage

from scoutview.batches.loader import ViewSample, collate_views
from scoutview.batches.sampler import Draw
from scoutview.images import BAND_SIGMAS, band_energies, radial_spectrum, volume_spectrum
from scoutview.images.spectrum import prefilter_sigma
from scoutview.views import (
    DepthParameters,
    ReferenceEnergies,
    ViewBatch,
    ViewParameters,
    ViewSettings,
    ViewSize,
    canvas_of,
    draw_parameters,
    draw_volume_parameters,
    render_views,
)

SIZES = ((40, 224, 192), (24, 112, 96))
CT = ViewSettings(crops=(1, 2), sizes=SIZES, fraction=None, short_sides=(96.0, 200.0), energy=1.0)


def references() -> ReferenceEnergies:
    mean = np.tile([0.01, 0.02, 0.03, 0.04, 0.05, 0.15], (16, 1))
    return ReferenceEnergies(np.geomspace(32, 1200, 16), mean, mean / 4)


def drawn(
    volume: np.ndarray,
    thickness: float,
    settings: ViewSettings = CT,
    step: int = 7,
    usual: ReferenceEnergies | None = None,
) -> ViewParameters:
    spectrum = volume_spectrum(volume, thickness)
    return draw_volume_parameters(
        settings, volume.shape, thickness, spectrum, usual or references(), seed=3, step=step, position=0
    )


def batch_of(volumes: list[np.ndarray], parameters: list[ViewParameters]) -> ViewBatch:
    samples = []
    for number, (volume, parameter) in enumerate(zip(volumes, parameters, strict=True)):
        samples.append(ViewSample(Draw(0, number, number), canvas_of(volume), parameter))
    return collate_views(samples).views


def rendered(volumes: list[np.ndarray], parameters: list[ViewParameters], sizes: list[ViewSize]) -> list[np.ndarray]:
    """View by view: [volume, slice, row, column]."""
    groups = render_views(batch_of(volumes, parameters), sizes)
    return [view[:, 0].numpy() for group in groups for view in group]


def finish(crop: np.ndarray, parameter: ViewParameters, view: int) -> np.ndarray:
    crop = np.clip(crop, 0, 1) ** float(parameter.gamma[view])
    return crop * float(parameter.gain[view]) + float(parameter.bias[view])


def places(parameter: ViewParameters, view: int, size: tuple[int, int, int]) -> list[np.ndarray]:
    """Slices, rows and columns of a view in px of the volume, from the middle of the first."""
    scale = float(parameter.scale[view])
    return [
        parameter.depth.front[view] + np.arange(size[0]),
        (parameter.top[view] + np.arange(size[1]) + 0.5) / scale - 0.5,
        (parameter.left[view] + np.arange(size[2]) + 0.5) / scale - 0.5,
    ]


def definition(
    volume: np.ndarray, thickness: float, parameter: ViewParameters, view: int, size: tuple[int, int, int]
) -> np.ndarray:
    """Cosine series of the anti-aliased volume, filtered bands, gamma, a I + b, crop."""
    scale = float(parameter.scale[view])
    frequencies = [np.pi * np.arange(length) / length for length in volume.shape]
    through, down, across = frequencies
    plane = np.add.outer(down**2, across**2)
    coefficients = fft.dctn(volume.astype(np.float64), norm="ortho")
    coefficients *= np.exp(-(prefilter_sigma(scale) ** 2) * plane / 2)
    for frequency, axis in ((down, 1), (across, 2)):
        cut = 0.5 + 0.5 * np.cos(np.clip(frequency / min(scale, 1.0) / np.pi - 0.5, 0, 1) * np.pi)
        coefficients *= cut.reshape([-1 if place == axis else 1 for place in range(3)])
    squared = np.add.outer((through / (scale * thickness)) ** 2, plane / scale**2)
    level, transfer = np.ones_like(squared), np.zeros_like(squared)
    for sigma, weight in zip(BAND_SIGMAS, parameter.bands[view], strict=False):
        lower = level * np.exp(-(sigma**2) * squared / 2)
        transfer += weight * (level - lower)
        level = lower
    transfer += parameter.bands[view][5] * level
    transfer[0, 0, 0] = 1.0
    crop = coefficients * transfer
    for axis, (place, length) in enumerate(zip(places(parameter, view, size), volume.shape, strict=True)):
        cosines = np.cos(np.outer(place + 0.5, frequencies[axis])) * np.sqrt(2 / length)
        cosines[:, 0] = np.sqrt(1 / length)
        crop = np.moveaxis(np.tensordot(cosines, crop, (1, axis)), 0, axis)
    return finish(crop, parameter, view)


def by_scipy(
    volume: np.ndarray, thickness: float, parameter: ViewParameters, view: int, size: tuple[int, int, int]
) -> np.ndarray:
    """Gaussians with a sigma per axis at full resolution, splines between pixels."""
    scale = float(parameter.scale[view])
    blur = float(prefilter_sigma(scale))
    level = ndimage.gaussian_filter(volume.astype(np.float64), (0, blur, blur), mode="reflect", truncate=8)
    total = np.zeros_like(level)
    for sigma, weight in zip(BAND_SIGMAS, parameter.bands[view], strict=False):
        sigmas = (sigma / (scale * thickness), sigma / scale, sigma / scale)
        lower = ndimage.gaussian_filter(level, sigmas, mode="reflect", truncate=8)
        total += weight * (level - lower)
        level = lower
    last = float(parameter.bands[view][5])
    total += last * level + (1 - last) * volume.mean(dtype=np.float64)
    grid = np.stack(np.meshgrid(*places(parameter, view, size), indexing="ij"))
    return finish(ndimage.map_coordinates(total, grid, order=5, mode="reflect"), parameter, view)


def inside(parameter: ViewParameters, view: int, size: tuple[int, int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Flags [row, column]: 3 sigma of the widest Gaussian from the borders of the slices."""
    margin = 3 * np.sqrt(np.square(BAND_SIGMAS).sum()) / float(parameter.scale[view])
    _, rows, columns = places(parameter, view, size)
    kept = [
        (place > margin) & (place < length - margin) for place, length in zip((rows, columns), shape[1:], strict=True)
    ]
    return np.logical_and.outer(*kept)


@pytest.mark.parametrize(("thickness", "slices"), [(0.5, 40), (5.0, 40), (1.5, 50), (4.0, 17)])
def test_views_equal_float64_references_at_full_resolution(thickness: float, slices: int) -> None:
    """Largest error 1% of the range, but for 3 sigma at the borders of slices; thin, thick, many and few slices."""
    volume = textured_volume(np.random.default_rng(0), (slices, 260, 230), thickness, 2.0)
    parameter, compared = drawn(volume, thickness), 0
    views = rendered([volume], [parameter], CT.view_sizes())
    for number, size in enumerate(CT.view_sizes()):
        error = np.abs(views[number][0] - definition(volume, thickness, parameter, number, size))
        kept = inside(parameter, number, size, volume.shape)
        assert error[:, kept].max(initial=0.0) < 0.01
        assert error.max() < 0.03
        compared += int(kept.sum())
    assert compared > 1000


def test_thin_slices_equal_filtering_by_scipy_at_full_resolution() -> None:
    """All sigmas are above a slice, below which a sampled Gaussian is another filter; lambda is 0.4 to 1.6."""
    volume = textured_volume(np.random.default_rng(1), (30, 200, 180), 0.7, 3.0)
    settings = ViewSettings(crops=(2,), sizes=((20, 112, 96),), fraction=None, short_sides=(96.0, 200.0), energy=1.0)
    grid = np.geomspace(32, 1200, 16)
    usual = band_energies(volume_spectrum(volume, 0.7), grid / 180)
    parameter = drawn(volume, 0.7, settings, usual=ReferenceEnergies(grid, usual, 0.6 * usual))
    assert np.ptp(parameter.bands) > 0.8
    views = rendered([volume], [parameter], settings.view_sizes())
    for number, size in enumerate(settings.view_sizes()):
        error = np.abs(views[number][0] - by_scipy(volume, 0.7, parameter, number, size))
        kept = inside(parameter, number, size, volume.shape)
        assert kept.sum() > 1000
        assert error[:, kept].max() < 0.01


def test_nothing_drawn_and_scale_one_is_the_volume_itself_mirrored_beyond_its_ends() -> None:
    volume = textured_volume(np.random.default_rng(2), (9, 80, 96), 2.0)
    flat = {name: np.full(2, value, np.float32) for name, value in (("gamma", 1), ("gain", 1), ("bias", 0))}
    parameter = ViewParameters(
        scale=np.ones(2, np.float32),
        top=np.array([0, 16], np.float32),
        left=np.array([0, 32], np.float32),
        bands=np.ones((2, 6), np.float32),
        depth=DepthParameters(np.array([2, -3], np.float32), np.full(2, 2.0, np.float32)),
        **flat,
    )
    first, second = rendered([volume], [parameter], [(5, 64, 64), (15, 64, 64)])
    # A pixel of a canvas is an int16, cut off.
    np.testing.assert_allclose(first[0], volume[2:7, :64, :64], atol=4e-5)
    whole = np.pad(volume, ((3, 3), (0, 0), (0, 0)), mode="symmetric")
    np.testing.assert_allclose(second[0], whole[:, 16:80, 32:96], atol=4e-5)


def test_a_volume_of_equal_slices_shows_in_each_what_the_image_shows() -> None:
    """The two ways, of images and of volumes, to the same filters."""
    image = textured(np.random.default_rng(3), 224, 192, 1.4)
    flat = ViewSettings(crops=(3,), sizes=((112, 96),), fraction=None, short_sides=(96.0, 200.0), energy=1.0)
    drawn_of_image = draw_parameters(
        flat, image.shape, radial_spectrum(image), references(), seed=0, step=1, position=2
    )
    depth = DepthParameters(np.array([-2, 0, 4], np.float32), np.array([0.3, 1.0, 6.0], np.float32))
    parameter = ViewParameters(**{**vars(drawn_of_image), "depth": depth})
    volume = np.repeat(image[None], 12, axis=0)
    views = rendered([volume], [parameter], [(8, 112, 96)] * 3)
    sample = ViewSample(Draw(0, 0, 0), canvas_of(image), drawn_of_image)
    (expected,) = render_views(collate_views([sample]).views, [(112, 96)] * 3)
    for number in range(3):
        for plane in views[number][0]:
            np.testing.assert_allclose(plane, expected[number, 0, 0], atol=2e-5)


def test_bands_have_the_energies_that_were_drawn() -> None:
    """The whole volume in a view: standard deviation of a band after amplification over that before."""
    volume = textured_volume(np.random.default_rng(4), (40, 224, 192), 3.0, 1.8)
    settings = ViewSettings(
        crops=(1,), sizes=(SIZES[0],), fraction=None, short_sides=(192.0, 192.0), gamma_chance=0, linear_chance=0
    )
    plain = drawn(volume, 3.0, settings)
    plain = ViewParameters(**{**vars(plain), "bands": np.ones((1, 6), np.float32)})
    for band in range(1, 5):
        bands = np.ones((1, 6), np.float32)
        bands[0, band] = 1.5
        louder = ViewParameters(**{**vars(plain), "bands": bands})
        one, other = (rendered([volume], [part], [SIZES[0]])[0][0] for part in (plain, louder))
        level = volume.astype(np.float64)
        for sigma in BAND_SIGMAS[: band + 1]:
            before, level = level, gaussian(level, sigma, 3.0)
        assert np.std(other - one) == pytest.approx(0.5 * (before - level).std(), rel=0.02)


def gaussian(values: np.ndarray, sigma: float, thickness: float) -> np.ndarray:
    """By the cosine transform, which is exact for sigmas below a slice as well."""
    coefficients = fft.dctn(values, norm="ortho")
    for axis, width in enumerate((sigma / thickness, sigma, sigma)):
        frequency = np.pi * np.arange(values.shape[axis]) / values.shape[axis]
        response = np.exp(-((width * frequency) ** 2) / 2)
        coefficients *= response.reshape([-1 if place == axis else 1 for place in range(3)])
    return fft.idctn(coefficients, norm="ortho")


def test_rendering_does_not_depend_on_the_rest_of_the_batch() -> None:
    generator = np.random.default_rng(6)
    volumes = [textured_volume(generator, (6 + 5 * place, 96, 80 + 8 * place), 2.0) for place in range(4)]
    settings = ViewSettings(
        crops=(1, 2), sizes=((12, 64, 48), (8, 32, 40)), fraction=None, short_sides=(40.0, 80.0), energy=0.5
    )
    parameters = [drawn(volume, 2.0, settings, step) for step, volume in enumerate(volumes)]
    together = rendered(volumes, parameters, settings.view_sizes())
    for place in range(4):
        alone = rendered(volumes[place : place + 1], parameters[place : place + 1], settings.view_sizes())
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(many[place], one[0], atol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_views_of_the_cpu() -> None:
    volumes = [textured_volume(np.random.default_rng(place), (40, 224, 192), 4.0) for place in range(5)]
    parameters = [drawn(volume, 4.0, step=step) for step, volume in enumerate(volumes)]
    batch = batch_of(volumes, parameters)
    sizes = CT.view_sizes()
    for one, other in zip(render_views(batch, sizes), render_views(batch.to(torch.device("cuda")), sizes), strict=True):
        assert float((one - other.cpu()).abs().max()) < 1e-3
