"""Resampling against block means, scipy, integrals of a fine subdivision, and a function of space."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scoutview.preprocessing.resample import Grid, resample


def straight(spacing: tuple[float, float, float], origin: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Affine of an axial volume; spacing and origin in x, y, z."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def rotation(degrees: float, axis: int) -> np.ndarray:
    matrix = np.eye(4)
    one, two = [other for other in range(3) if other != axis]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix[one, one] = matrix[two, two] = cosine
    matrix[one, two], matrix[two, one] = -sine, sine
    return matrix


def places(grid: Grid) -> list[np.ndarray]:
    """x, y, z of all voxels."""
    k, r, c = np.indices(grid.shape)
    return [grid.affine[axis, :3] @ np.stack([c, r, k]).reshape(3, -1) + grid.affine[axis, 3] for axis in range(3)]


def wave(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A function of space that changes little within a voxel."""
    return np.sin(x / 11) + np.cos(y / 9 + 0.3) * np.sin(z / 14)


def test_whole_factors_are_block_means() -> None:
    values = np.random.default_rng(0).normal(size=(6, 12, 20)).astype(np.float32)
    # The first new voxel covers old ones 0, 1, ...: its centre lies in their middle.
    grid = Grid((2, 3, 10), straight((2, 4, 3), (0.5, 1.5, 1.0)))
    result, inside = resample(values, np.eye(4), grid, -9)
    np.testing.assert_allclose(result, values.reshape(2, 3, 3, 4, 10, 2).mean((1, 3, 5)), atol=1e-6)
    assert inside.all()


def test_broken_factors_are_means_over_the_voxel_and_keep_the_mean() -> None:
    values = np.random.default_rng(1).normal(size=(5, 14, 9)).astype(np.float32)
    shape = (3, 5, 4)
    factors = np.array(values.shape) / shape
    affine = straight(tuple(factors[::-1]), tuple((factors[::-1] - 1) / 2))
    result, _ = resample(values, np.eye(4), Grid(shape, affine), 0)
    fine = values
    for axis, count in enumerate(shape):
        fine = np.repeat(fine, count, axis=axis)  # both subdivide it
    expected = fine.reshape(3, 5, 5, 14, 4, 9).mean((1, 3, 5))
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result.mean() == pytest.approx(values.mean(), abs=1e-6)


def test_finer_grids_are_linear_interpolation_as_in_scipy() -> None:
    values = np.random.default_rng(2).normal(size=(7, 9, 8)).astype(np.float32)
    shape, step, start = (11, 20, 13), np.array([0.5, 0.4, 0.6]), np.array([0.7, 0.2, 0.1])
    result, inside = resample(values, np.eye(4), Grid(shape, straight(tuple(step[::-1]), tuple(start[::-1]))), 0)
    expected = ndimage.affine_transform(values, step, start, shape, order=1, mode="nearest")
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert inside.all()


def test_oblique_grids_of_the_same_spacing_are_linear_interpolation_as_in_scipy() -> None:
    values = np.random.default_rng(3).normal(size=(20, 22, 24)).astype(np.float32)
    affine = straight((1, 1, 1), (-11.5, -10.5, -9.5))
    grid = Grid((12, 12, 12), rotation(20, 0) @ rotation(-15, 2) @ straight((0.6, 0.6, 0.6), (-3, -3, -3)))
    result, inside = resample(values, affine, grid, 0)
    x, y, z = places(grid)
    expected = ndimage.map_coordinates(values, [z + 9.5, y + 10.5, x + 11.5], order=1).reshape(grid.shape)
    assert inside.all()
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_any_order_and_direction_of_axes_gives_the_same_volume(order: tuple, flips: tuple) -> None:
    values = np.random.default_rng(4).normal(size=(6, 10, 8)).astype(np.float32)
    affine = straight((0.9, 0.7, 2.5), (4, -3, 7))
    grid = Grid((5, 6, 7), straight((1.0, 1.1, 2.8), (4.3, -2.6, 8)))
    expected, _ = resample(values, affine, grid, 0)
    turned = np.transpose(values, order)[tuple(slice(None, None, flip) for flip in flips)]
    # Index of the old array = where * index of the new one, homogeneous, both (slice, row, column).
    where = np.zeros((4, 4))
    where[3, 3] = 1
    for axis, (old, flip) in enumerate(zip(order, flips, strict=True)):
        where[old, axis] = flip
        where[old, 3] = values.shape[old] - 1 if flip < 0 else 0
    swap = np.eye(4)[[2, 1, 0, 3]]
    result, _ = resample(turned, affine @ swap @ where @ swap, grid, 0)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize(
    "affine",
    [
        rotation(12, 0) @ straight((0.5, 0.5, 3.0), (-40, -40, -45)),
        rotation(-25, 1) @ rotation(8, 2) @ straight((0.9, 0.9, 1.2), (-70, -70, -20)),
        # A tilted gantry: slices lie in the axial plane's direction, rows are sheared from one to the next.
        np.array([[0.6, 0, 0, -40], [0, 0.6, 0.9, -50], [0, 0, 3.0, -45], [0, 0, 0, 1.0]]),
        # Coronal, and tilted.
        rotation(10, 0) @ np.array([[0.7, 0, 0, -45], [0, 0, 1.5, -40], [0, -0.7, 0, 45], [0, 0, 0, 1.0]]),
    ],
)
@pytest.mark.parametrize("spacing", [(0.5, 0.5, 1.0), (2.0, 2.0, 2.5)])
def test_tilted_volumes_show_what_lies_there(affine: np.ndarray, spacing: tuple) -> None:
    shape = (40, 130, 140)
    values = wave(*places(Grid(shape, affine))).reshape(shape).astype(np.float32)
    grid = Grid((8, 20, 20), straight(spacing, (-10, -12, -8)))
    result, inside = resample(values, affine, grid, -9)
    # Smoothing a wave over at most 3 mm changes it by less than 2% of its height.
    assert np.abs(result - wave(*places(grid)).reshape(grid.shape))[inside].max() < 0.04
    assert inside.mean() > 0.5
    assert (result[~inside] == -9).all()


def test_tilted_shrinking_keeps_the_mean_and_removes_what_is_finer() -> None:
    generator = np.random.default_rng(5)
    values = generator.normal(size=(60, 60, 60)).astype(np.float32)
    affine = rotation(9, 0) @ rotation(7, 1) @ straight((1, 1, 1), (-29.5, -29.5, -29.5))
    grid = Grid((8, 8, 8), straight((4, 4, 4), (-14, -14, -14)))
    result, inside = resample(values + 100, affine, grid, 0)
    assert inside.all()
    assert result.mean() == pytest.approx(100, abs=0.1)
    # The mean of 64 independent values has a deviation of 1/8; plain interpolation would leave 0.3 to 1.
    assert result.std() < 0.13


def test_what_lies_outside_is_said() -> None:
    values = np.ones((4, 4, 4), dtype=np.float32)
    result, inside = resample(values, np.eye(4), Grid((8, 4, 4), straight((1, 1, 1), (0, 0, -2))), -1000)
    assert inside.all((1, 2)).tolist() == [False] * 2 + [True] * 4 + [False] * 2
    np.testing.assert_array_equal(result, np.where(inside, 1, -1000))
    tilted = Grid((8, 8, 8), rotation(30, 0) @ straight((1, 1, 1), (-2, -2, -2)))
    result, inside = resample(values, np.eye(4), tilted, -1000)
    within = np.all([(place >= -0.5) & (place <= 3.5) for place in places(tilted)], axis=0)
    np.testing.assert_array_equal(inside.ravel(), within)
    np.testing.assert_allclose(result, np.where(inside, 1, -1000))
    nowhere, inside = resample(values, np.eye(4), Grid((2, 2, 2), straight((1, 1, 1), (50, 50, 50))), -1)
    assert not inside.any()
    assert (nowhere == -1).all()
    far = Grid((2, 2, 2), rotation(30, 0) @ straight((1, 1, 1), (50, 50, 50)))
    assert not resample(values, np.eye(4), far, -1)[1].any()


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.ones((4, 4))])
def test_affines_that_span_no_volume_are_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not one of a volume"):
        resample(np.ones((2, 2, 2), dtype=np.float32), affine, Grid((2, 2, 2), np.eye(4)), 0)
