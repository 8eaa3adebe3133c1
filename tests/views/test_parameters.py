"""Parameters: keyed, in their ranges, distributed as the text says."""

from __future__ import annotations

import numpy as np
import pytest
from samples import textured, textured_volume
from scipy import stats

from scoutview.images import band_energies, radial_spectrum, volume_spectrum
from scoutview.views import (
    ReferenceEnergies,
    ViewParameters,
    ViewSettings,
    draw_parameters,
    draw_volume_parameters,
    largest_scale,
)
from scoutview.views.parameters import in_plane

GRID = np.geomspace(32, 1200, 16)
REFERENCES = ReferenceEnergies(GRID, np.full((16, 6), 0.05), np.full((16, 6), 0.02))
IMAGE = textured(np.random.default_rng(0), 300, 400)
SPECTRUM = radial_spectrum(IMAGE)


def drawn(settings: ViewSettings, count: int = 400, shape: tuple[int, int] = (300, 400)) -> list[ViewParameters]:
    return [
        draw_parameters(settings, shape, SPECTRUM, REFERENCES, seed=1, step=step, position=5) for step in range(count)
    ]


def test_the_key_decides_and_nothing_else() -> None:
    settings = ViewSettings(crops=(2, 6), sizes=(96, 48))

    def draw(seed: int = 1, step: int = 2, position: int = 3) -> ViewParameters:
        return draw_parameters(settings, (300, 400), SPECTRUM, REFERENCES, seed=seed, step=step, position=position)

    first, again = draw(), draw()
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(again, name))
    for other in (draw(seed=2), draw(step=3), draw(position=4)):
        assert not np.array_equal(first.scale, other.scale)
    assert len(set(first.top.tolist())) == 8


def test_turning_one_augmentation_off_leaves_the_others_as_they_were() -> None:
    on, off = drawn(ViewSettings(sizes=(96, 48)), 5), drawn(ViewSettings(sizes=(96, 48), gamma_chance=0.0), 5)
    for one, other in zip(on, off, strict=True):
        np.testing.assert_array_equal(one.gain, other.gain)
        np.testing.assert_array_equal(one.bands, other.bands)
        assert (other.gamma == 1).all()


def test_ranges_and_distributions() -> None:
    settings = ViewSettings(crops=(2,), sizes=(96,), energy=1.0, gamma_chance=1.0, linear_chance=1.0)
    table = drawn(settings, 600)
    gamma = np.concatenate([row.gamma for row in table])
    assert stats.kstest(gamma, stats.uniform(1.8, 0.8).cdf).pvalue > 1e-3
    gain, bias = np.concatenate([row.gain for row in table]), np.concatenate([row.bias for row in table])
    assert stats.kstest(gain, stats.uniform(0.9, 0.2).cdf).pvalue > 1e-3
    assert stats.kstest(bias, stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-3
    for row in table:
        present = band_energies(SPECTRUM, row.scale)
        assert (np.abs(row.bands * present - 0.05) <= 0.02 * 1.001).all()
    wanted = np.concatenate([(row.bands * band_energies(SPECTRUM, row.scale))[:, 2] for row in table])
    truncated = stats.truncnorm(-1, 1, loc=0.05, scale=0.02)
    assert stats.kstest(wanted, truncated.cdf).pvalue > 1e-3


def test_small_images_are_shown_between_the_crop_and_their_native_size() -> None:
    short_sides = np.concatenate([row.scale * 300 for row in drawn(ViewSettings(crops=(2,), sizes=(96,)))])
    assert stats.kstest(short_sides, stats.uniform(96, 204).cdf).pvalue > 1e-3


def test_large_radiographs_follow_the_factor_within_600_and_1200() -> None:
    short_sides = np.concatenate(
        [row.scale * 2000 for row in drawn(ViewSettings(crops=(2,), sizes=(224,)), shape=(2000, 2500))]
    )
    assert short_sides.min() >= 600 * 0.9999
    assert short_sides.max() <= 1200 * 1.0001
    # U[0.1, 0.7] of 2000 is below 600 for a third of the draws, above 1200 for a sixth.
    assert np.mean(short_sides < 600.1) == pytest.approx(1 / 3, abs=0.06)
    assert np.mean(short_sides > 1199.9) == pytest.approx(1 / 6, abs=0.05)


def test_crops_lie_inside_and_everywhere() -> None:
    table = drawn(ViewSettings(crops=(2,), sizes=(96,), visible=((0.4, 0.8),)))
    for row in table:
        assert (row.top >= 0).all()
        assert (row.top + 96 <= row.scale * 300 + 1e-3).all()
        assert (row.left + 96 <= row.scale * 400 + 1e-3).all()
    share = np.concatenate([row.left / (row.scale * 400 - 96) for row in table])
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    visible = np.concatenate([96 / (row.scale * 300) for row in table])
    assert visible.min() >= 0.4 * 0.999
    assert visible.max() <= 0.8 * 1.001


def test_rectangular_crops_lie_inside_and_reach_the_smallest_image_that_they_fit_in() -> None:
    settings = ViewSettings(crops=(2, 2), sizes=((64, 160), (120, 40)))
    table = drawn(settings)
    sides = np.array(settings.view_sizes())
    for row in table:
        assert (row.top + sides[:, 0] <= row.scale * 300 + 1e-3).all()
        assert (row.left + sides[:, 1] <= row.scale * 400 + 1e-3).all()
    scales = np.stack([row.scale for row in table])
    # 160 of 400 columns and 120 of 300 rows: whichever needs more.
    for column in scales.T:
        assert stats.kstest(column, stats.uniform(0.4, 0.6).cdf).pvalue > 1e-3


VOLUME = textured_volume(np.random.default_rng(0), (40, 224, 192), 5.0)
CT = ViewSettings(
    crops=(1, 4), sizes=((40, 224, 192), (24, 112, 96)), fraction=None, short_sides=(96.0, 200.0), energy=1.0
)


def drawn_of_volume(settings: ViewSettings, count: int, slices: int = 40) -> list[ViewParameters]:
    spectrum = volume_spectrum(VOLUME, 5.0)
    key = {"seed": 1, "position": 5}
    return [
        draw_volume_parameters(settings, (slices, 224, 192), 5.0, spectrum, REFERENCES, **key, step=step)
        for step in range(count)
    ]


def test_views_of_a_volume_lie_in_it_and_are_as_large_as_table_i_says() -> None:
    table = drawn_of_volume(CT, 300)
    rows, columns = np.array([in_plane(size) for size in CT.view_sizes()]).T
    for row in table:
        assert (row.top + rows <= row.scale * 224 + 1e-3).all()
        assert (row.left + columns <= row.scale * 192 + 1e-3).all()
        assert (row.scale * 224 <= 250).all()
        np.testing.assert_allclose(row.depth.thickness, row.scale * 5)
    sides = np.stack([row.scale * 192 for row in table])
    assert stats.kstest(sides[:, 0], stats.uniform(192, 8).cdf).pvalue > 1e-3
    assert stats.kstest(sides[:, 1:].ravel(), stats.uniform(96, 104).cdf).pvalue > 1e-3
    front = np.stack([row.depth.front for row in table])
    assert (front[:, 0] == 0).all()
    counts = np.bincount(front[:, 1:].ravel().astype(int), minlength=17)
    assert len(counts) == 17
    assert stats.chisquare(counts).pvalue > 1e-3
    for row in table[:20]:
        present = band_energies(volume_spectrum(VOLUME, 5.0), row.scale)
        assert (np.abs(row.bands * present - 0.05) <= 0.02 * 1.001).all()


def test_a_volume_of_few_slices_lies_in_the_middle_of_a_view() -> None:
    (row,) = drawn_of_volume(CT, 1, slices=15)
    assert row.depth.front.tolist() == [-13, *[-5] * 4]


def test_the_key_decides_about_volumes_too() -> None:
    first, again = drawn_of_volume(CT, 2), drawn_of_volume(CT, 2)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.depth.front, other.depth.front)
        np.testing.assert_array_equal(one.bands, other.bands)
    assert not np.array_equal(first[0].depth.front, first[1].depth.front)


def test_reference_energies_are_interpolated_in_the_logarithm_of_the_scale() -> None:
    mean = np.log(GRID)[:, None] * np.ones(6)
    references = ReferenceEnergies(GRID, mean, mean)
    for side in (32.0, 50.0, 333.0, 1200.0):
        np.testing.assert_allclose(references.at(side)[0], np.log(side), rtol=1e-9)
    np.testing.assert_allclose(references.at(5000.0)[0], np.log(1200.0))


def test_bands_without_energy_are_left_alone() -> None:
    flat = radial_spectrum(np.full((64, 64), 0.3, dtype=np.float32))
    settings = ViewSettings(crops=(2,), sizes=(48,), energy=1.0)
    row = draw_parameters(settings, (64, 64), flat, REFERENCES, seed=0, step=0, position=0)
    assert (row.bands == 1).all()


@pytest.mark.parametrize("shape", [(60, 90), (300, 400), (2000, 1500)])
@pytest.mark.parametrize("visible", [None, ((0.5, 1.0), (0.2, 0.4))])
def test_the_largest_scale_bounds_every_draw_and_is_reached(
    shape: tuple[int, int], visible: tuple[tuple[float, float], ...] | None
) -> None:
    settings = ViewSettings(crops=(2, 2), sizes=(96, 48), visible=visible)
    scales = np.concatenate([each.scale for each in drawn(settings, 300, shape)])
    assert scales.max() <= largest_scale(settings, shape) * (1 + 1e-6)
    assert scales.max() >= largest_scale(settings, shape) * 0.97
