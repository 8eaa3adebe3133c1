"""Outlines and curves: soft ellipses, irregular blobs, wandering tubes."""

from __future__ import annotations

import numpy as np

from scoutview.phantoms.finding import Array, Pixels


def pixel_grid(size: int, spacing: float) -> tuple[Pixels, Pixels]:
    """x [1, column] and y [row, 1] in mm from the centre of a square image; x grows right, y grows down."""
    line = ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)
    return line[None, :], line[:, None]


def turned(x: Array, y: Array, angle: float, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[Pixels, Pixels]:
    """Coordinates in a frame moved by `shift` mm and turned by `angle` radians."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    moved_x, moved_y = x - np.float32(shift[0]), y - np.float32(shift[1])
    return cosine * moved_x + sine * moved_y, cosine * moved_y - sine * moved_x


def ellipse_level(
    x: Array, y: Array, centre: tuple[float, float], half_axes: tuple[float, float], angle: float = 0.0
) -> Pixels:
    """(x/a)^2 + (y/b)^2 in the ellipse's frame: 0 at the centre, 1 on the outline."""
    u, v = turned(x, y, angle, centre)
    level: Pixels = np.square(u / np.float32(half_axes[0])) + np.square(v / np.float32(half_axes[1]))
    return level


def soft_step(distance: Array, width: float) -> Pixels:
    """0 far below zero, 1 far above, linear over `width` around it: the partial volume of an edge."""
    step: Pixels = np.clip(distance / np.float32(width) + np.float32(0.5), 0.0, 1.0)
    return step


def chord(level: Array, half_thickness: float) -> Pixels:
    """Thickness along the beam of an ellipsoid whose outline is level = 1: 2 c sqrt(1 - level), 0 outside."""
    thickness: Pixels = np.sqrt(np.clip(1.0 - level, 0.0, None)) * np.float32(2.0 * half_thickness)
    return thickness


def window_around(
    x: Array, y: Array, centre: tuple[float, float], radius: float
) -> tuple[tuple[slice, slice], Array, Array]:
    """The part of an upright grid (x [1, column], y [row, 1]) within `radius` mm of `centre`.

    Returns its slices (row, column) and its x and y. Small things are drawn in it instead of the whole image.
    """
    rows = slice(*(int(edge) for edge in np.searchsorted(y[:, 0], [centre[1] - radius, centre[1] + radius])))
    columns = slice(*(int(edge) for edge in np.searchsorted(x[0], [centre[0] - radius, centre[0] + radius])))
    return (rows, columns), x[:, columns], y[rows]


def add_ellipsoid(
    image: Pixels,
    x: Array,
    y: Array,
    centre: tuple[float, float],
    half_axes: tuple[float, float, float],
    angle: float = 0.0,
) -> None:
    """Add the thickness along the beam of an ellipsoid with `half_axes` (x, y, beam) to `image`, in place."""
    window, near_x, near_y = window_around(x, y, centre, max(half_axes[:2]))
    level = ellipse_level(near_x, near_y, centre, half_axes[:2], angle)
    image[window] += chord(level, half_axes[2])


def irregular_distance(
    generator: np.random.Generator,
    x: Array,
    y: Array,
    radii: tuple[float, float],
    roughness: float,
    harmonics: int = 6,
) -> Pixels:
    """Distance from the centre over the radius of an irregular outline: below 1 inside.

    The outline is an ellipse of `radii` mm whose radius is multiplied by
    1 + sum_k a_k cos(k t + phase_k), a_k ~ roughness / k for k = 2 .. harmonics, in a random direction.
    """
    u, v = turned(x, y, generator.uniform(0, np.pi))
    u, v = u / np.float32(radii[0]), v / np.float32(radii[1])
    angle = np.arctan2(v, u)
    outline = np.ones_like(angle)
    for k in range(2, harmonics + 1):
        amplitude = np.float32(roughness / k * generator.standard_normal())
        outline += amplitude * np.cos(np.float32(k) * angle + np.float32(generator.uniform(0, 2 * np.pi)))
    distance: Array = np.hypot(u, v) / np.maximum(outline, np.float32(0.3))
    return distance


def wandering_paths(
    generator: np.random.Generator,
    starts: Array,
    directions: Array,
    lengths: Array,
    steps: int,
    wander: float,
) -> Pixels:
    """Paths [path, step, (x, y)] in mm from `starts` [path, 2] whose direction drifts by `wander` radians."""
    turns = generator.normal(0.0, wander / np.sqrt(steps), (len(starts), steps))
    heading = directions[:, None] + np.cumsum(turns, axis=1)
    step = (lengths / steps)[:, None, None]
    moves = np.stack([np.cos(heading), np.sin(heading)], axis=2) * step
    paths: Pixels = (starts[:, None, :] + np.cumsum(moves, axis=1)).astype(np.float32)
    return paths


def splat(points: Array, weights: Array, size: int, spacing: float) -> Pixels:
    """Sum of `weights` [point] in the pixels that hold `points` [point, (x, y)] in mm; others are dropped."""
    columns = np.rint(points[:, 0] / spacing + (size - 1) / 2).astype(int)
    rows = np.rint(points[:, 1] / spacing + (size - 1) / 2).astype(int)
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    flat = np.bincount(rows[inside] * size + columns[inside], weights=weights[inside], minlength=size * size)
    return flat.astype(np.float32).reshape(size, size)
