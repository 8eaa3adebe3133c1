"""A volume on another grid in space, each new voxel the mean of what it covers.

Old voxels are cells of constant value. Along an axis on which voxels grow, a new one is the mean over its own extent;
where they shrink, over the extent of an old one, which is linear interpolation. When both grids have the same axes, in
any order and direction, this is exact. Oblique and sheared grids (tilted gantries) are averaged along the old axes to
half the new spacing, where that is coarser, and interpolated linearly from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Values = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

STRAIGHT = 0.05
"""Old voxels; grids whose axes diverge by less over the whole new grid count as parallel."""


@dataclass(frozen=True)
class Grid:
    """shape: slices, rows, columns. affine: 4 x 4 from (column, row, slice, 1) to patient coordinates in mm (LPS)."""

    shape: tuple[int, int, int]
    affine: Matrix


@dataclass(frozen=True)
class _Mapping:
    """Old index = matrix @ new index + start, both as (slice, row, column), the old axes ordered and turned to fit.

    axes: which old axis each is; flipped: whether it runs backwards.
    """

    matrix: Matrix
    start: Matrix
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]


def resample(
    values: npt.NDArray[np.floating], affine: Matrix, grid: Grid, outside: float
) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Bring values [slice, row, column] at `affine` (as that of `Grid`) onto a grid.

    Returns the new values float32 [slice, row, column], `outside` where the centre of a voxel lies in no old one, and
    whether it lies in one.

    Raises:
        ValueError: if the affine is not one of a volume.
    """
    mapping = _mapping(values.shape, affine, grid)
    turned = np.transpose(values, mapping.axes)[tuple(slice(None, None, -1 if back else 1) for back in mapping.flipped)]
    reach = np.abs(mapping.matrix) * (np.array(grid.shape) - 1)
    np.fill_diagonal(reach, 0.0)
    if reach.sum(1).max() < STRAIGHT:
        return _straight(turned, mapping, grid.shape, outside)
    return _oblique(turned, mapping, grid.shape, outside)


def window_weights(centres: Matrix, width: float, length: int) -> Values:
    """Weights [centre, cell] of the means over windows of `width` >= 1 cells; cell i reaches from i - 0.5 to i + 0.5.

    What lies beyond the cells does not count; a centre beyond them has no weights at all.
    """
    cells = np.arange(length)
    left = np.maximum(centres[:, None] - width / 2, cells - 0.5)
    right = np.minimum(centres[:, None] + width / 2, cells + 0.5)
    weights = np.maximum(right - left, 0.0)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    weights[~_within(centres, length)] = 0.0
    single: Values = weights.astype(np.float32)
    return single


def _within(centres: Matrix, length: int) -> npt.NDArray[np.bool_]:
    # Rounding must not put a border that both grids share on the wrong side.
    within: npt.NDArray[np.bool_] = (centres >= -0.5 - 1e-6) & (centres <= length - 0.5 + 1e-6)
    return within


def _mapping(shape: tuple[int, ...], affine: Matrix, grid: Grid) -> _Mapping:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("the affine is not one of a volume: two of its axes are parallel, or one has no length")
    both = np.linalg.inv(affine) @ grid.affine
    matrix, start = both[2::-1, 2::-1], both[2::-1, 3]
    directions = [part / np.linalg.norm(part, axis=0) for part in (affine[:3, 2::-1], grid.affine[:3, 2::-1])]
    likeness = np.abs(directions[0].T @ directions[1])
    axes = max(permutations(range(3)), key=lambda order: sum(likeness[order[axis], axis] for axis in range(3)))
    matrix, start = matrix[list(axes)], start[list(axes)]
    flipped = np.diag(matrix) < 0
    matrix[flipped] *= -1.0
    lengths = np.array(shape)[list(axes)]
    start[flipped] = lengths[flipped] - 1.0 - start[flipped]
    back = flipped.tolist()
    return _Mapping(matrix, start, (axes[0], axes[1], axes[2]), (back[0], back[1], back[2]))


def _straight(
    values: npt.NDArray[np.floating], mapping: _Mapping, shape: tuple[int, int, int], outside: float
) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Axis by axis; what little the axes diverge is taken at the middle of the grid."""
    middle = mapping.matrix @ ((np.array(shape) - 1) / 2) + mapping.start
    weights, within = [], []
    for axis in range(3):
        step = mapping.matrix[axis, axis]
        centres = middle[axis] + step * (np.arange(shape[axis]) - (shape[axis] - 1) / 2)
        weights.append(window_weights(centres, max(step, 1.0), values.shape[axis]))
        within.append(_within(centres, values.shape[axis]))
    result = _averaged(values, weights)
    inside = within[0][:, None, None] & within[1][:, None] & within[2]
    result[~inside] = outside
    return result, inside


def _oblique(
    values: npt.NDArray[np.floating], mapping: _Mapping, shape: tuple[int, int, int], outside: float
) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Averages at half the new spacing along the old axes, then linear interpolation."""
    corners = np.array([[(n - 1) * bit for n, bit in zip(shape, bits, strict=True)] for bits in np.ndindex(2, 2, 2)])
    places = corners @ mapping.matrix.T + mapping.start
    first, step, weights = np.zeros(3), np.ones(3), []
    for axis, length in enumerate(values.shape):
        width = max(float(np.linalg.norm(mapping.matrix[axis])), 1.0)
        step[axis] = width / 2 if width > 1.0 else 1.0
        # Centres at the middle of the first cell, plus steps, as far as the new grid reaches.
        low = max(np.floor(places[:, axis].min() / step[axis]) - 1, 0.0)
        high = min(np.ceil(places[:, axis].max() / step[axis]) + 1, np.ceil((length - 1) / step[axis]))
        centres = np.minimum(np.arange(low, max(high, low) + 1) * step[axis], length - 0.5)
        first[axis] = low
        weights.append(window_weights(centres, width, length))
    matrix = mapping.matrix / step[:, None]
    start = mapping.start / step - first
    result = np.empty(shape, dtype=np.float32)
    ndimage.affine_transform(_averaged(values, weights), matrix, start, shape, result, order=1, mode="nearest")
    inside = np.ones(shape, dtype=np.bool_)
    axes = np.ogrid[: shape[0], : shape[1], : shape[2]]
    for axis, length in enumerate(values.shape):
        place = mapping.start[axis] + sum(mapping.matrix[axis, other] * axes[other] for other in range(3))
        inside &= _within(np.asarray(place), length)
    result[~inside] = outside
    return result, inside


def _averaged(values: npt.NDArray[np.floating], weights: list[Values]) -> Values:
    """Apply the weights of the three axes; slices that have none are not looked at."""
    used = np.flatnonzero(weights[0].any(0))
    planes = np.empty((len(used), len(weights[1]), len(weights[2])), dtype=np.float32)
    for place, number in enumerate(used):
        planes[place] = weights[1] @ np.asarray(values[number], dtype=np.float32) @ weights[2].T
    result: Values = np.tensordot(weights[0][:, used], planes, 1).astype(np.float32)
    return result
