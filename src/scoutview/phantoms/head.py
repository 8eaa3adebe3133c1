"""The head that CT and MR share: one axial section's tissues as soft maps, in mm.

x grows to the image's right (patient left), y grows backwards, z grows upwards. The skull is an ellipsoid with
a wavy outline; depth is the distance in mm below its inner table. Sulci are crests of a wave that runs along
the inner table and bends with depth, so the cortex folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoutview.phantoms.finding import Pixels
from scoutview.phantoms.noise import smooth_field
from scoutview.phantoms.shapes import ellipse_level, pixel_grid, soft_step, turned

BOTTOM, TOP = -36.0, 52.0
"""mm; the axial positions that a series covers."""


@dataclass(frozen=True)
class Head:
    """A patient's head in mm and radians. `ventricles` and `sulci` are sizes relative to a middle-aged brain."""

    half_axes: tuple[float, float, float]
    waves: tuple[tuple[float, float], ...]
    skull: float
    scalp: float
    ventricles: float
    sulci: float
    angle: float
    shift: tuple[float, float]
    spacing: float


@dataclass(frozen=True)
class Section:
    """Soft maps 0..1 [row, column] of one axial section; later tissues lie over earlier ones.

    x, y: mm in the head's frame. angle: around the centre. radius: distance from the centre over the inner table's.
    depth: mm below the inner table, negative outside. sulci: fluid between the folds. cortex: grey matter.
    fluid: ventricles. cisterns: fluid below the brain and in the lateral fissures. falx: the midline fold.
    """

    x: Pixels
    y: Pixels
    z: float
    angle: Pixels
    table: Pixels
    depth: Pixels
    sulci: Pixels
    cortex: Pixels
    fluid: Pixels
    cisterns: Pixels
    falx: Pixels
    spacing: float


def random_head(generator: np.random.Generator, size: int) -> Head:
    """A head of a random adult, turned and moved a little in a field of view of 215 to 250 mm."""
    waves = tuple((float(generator.normal(0, 0.02 / k)), float(generator.uniform(0, 6.3))) for k in range(2, 7))
    return Head(
        half_axes=(
            float(generator.uniform(62, 70)),
            float(generator.uniform(78, 87)),
            float(generator.uniform(72, 82)),
        ),
        waves=waves,
        skull=float(generator.uniform(4.5, 8.0)),
        scalp=float(generator.uniform(4.0, 8.0)),
        ventricles=float(generator.uniform(0.75, 1.45)),
        sulci=float(generator.uniform(0.6, 1.6)),
        angle=float(generator.normal(0, 0.08)),
        shift=(float(generator.normal(0, 4)), float(generator.normal(0, 4))),
        spacing=float(np.round(generator.uniform(215, 250) / size, 4)),
    )


def section_positions(slices: int) -> list[float]:
    """Axial positions in mm, equally spaced from the bottom upwards; a single slice lies in the middle."""
    step = section_spacing(slices)
    return [BOTTOM + step * (number + 0.5) for number in range(slices)]


def section_spacing(slices: int) -> float:
    """mm between neighbouring slices."""
    return (TOP - BOTTOM) / slices


def draw_section(generator: np.random.Generator, head: Head, z: float, size: int) -> Section:
    """The tissues at height `z` mm."""
    shape = (size, size)
    grid_x, grid_y = pixel_grid(size, head.spacing)
    x, y = turned(grid_x, grid_y, head.angle, head.shift)
    a, b, c = head.half_axes
    shrink = (1.0 - abs(z / c) ** 2.5) ** (1 / 2.5) if z > 0 else (1.0 - abs(z / (1.25 * c)) ** 2.5) ** (1 / 2.5)
    angle = np.arctan2(y, x)
    radius = np.hypot(x, y)
    outline = np.ones(shape, dtype=np.float32)
    for k, (amplitude, phase) in enumerate(head.waves, start=2):
        outline += np.float32(amplitude) * np.cos(np.float32(k) * angle + np.float32(phase))
    # The back of the head is the wider one.
    outline *= np.float32(shrink) * (1.0 + 0.05 * np.sin(angle) * np.square(np.cos(angle)))
    ellipse = np.hypot(np.cos(angle) / np.float32(a), np.sin(angle) / np.float32(b))
    table: Pixels = (outline / ellipse).astype(np.float32)
    depth = table - radius
    bend = smooth_field(generator, shape, (11, 11))
    limit = 14.0 + 6.0 * smooth_field(generator, shape, (9, 9))
    wave = np.sin(table * angle * np.float32(2 * np.pi / 15.0) + 2.2 * bend)
    # A crest of the wave is a sulcus; it ends at a varying depth.
    crest = np.clip((wave - np.float32(1.0 - 0.05 * head.sulci)) / np.float32(0.05 * head.sulci), 0.0, 1.0)
    sulci = crest * soft_step(limit - depth, 5.0) * soft_step(depth, 1.0)
    sulci = np.maximum(sulci, soft_step(np.float32(1.2 * head.sulci) - depth, 1.0) * soft_step(depth, 1.0))
    band = soft_step(wave - 0.55, 0.3) * soft_step(limit + 4.0 - depth, 3.0)
    cortex = np.maximum(band, soft_step(4.5 - depth, 2.0))
    nuclei = _deep_grey(x, y, z)
    falx = np.exp(-np.square((x - 1.2 * bend) / 0.9)) * soft_step(np.abs(y) - (18.0 if z < 25 else 0.0), 6.0)
    falx = falx * soft_step(depth, 2.0) * np.float32(1.0 if z > -15 else 0.25)
    fissure = np.exp(-np.square((x - 1.2 * bend) / np.float32(1.6 * head.sulci))) * soft_step(26.0 - depth, 8.0)
    sulci = np.maximum(sulci, 0.8 * fissure * soft_step(depth, 1.0))
    return Section(
        x=x,
        y=y,
        z=z,
        angle=angle,
        table=table,
        depth=depth,
        sulci=sulci,
        cortex=np.maximum(cortex, nuclei),
        fluid=_ventricles(head, x, y, z),
        cisterns=_cisterns(head, x, y + 1.5 * bend, z) * soft_step(depth, 2.0),
        falx=falx,
        spacing=head.spacing,
    )


def _bell(z: float, middle: float, width: float) -> float:
    return float(np.exp(-(((z - middle) / width) ** 4)))


def _ventricles(head: Head, x: Pixels, y: Pixels, z: float) -> Pixels:
    """Lateral (frontal horn, body, trigone), third and fourth ventricle at height z."""
    fluid = np.zeros((y.shape[0], x.shape[1]), dtype=np.float32)
    scale = head.ventricles
    parts: list[tuple[tuple[float, float], tuple[float, float], float, float]] = [
        ((0.0, 0.0), (1.6, 11.0), 0.0, _bell(z, -2, 11)),
        ((0.0, 40.0), (6.5, 4.5), 0.0, _bell(z, -30, 12)),
    ]
    for sign in (-1.0, 1.0):
        parts += [
            ((sign * 9.0, -22.0), (4.0, 13.0), -sign * 0.35, _bell(z, 8, 17)),
            ((sign * 12.0, 0.0), (4.0, 19.0), sign * 0.1, _bell(z, 22, 11)),
            ((sign * 21.0, 24.0), (5.0, 13.0), sign * 0.45, _bell(z, 6, 17)),
        ]
    for centre, (half_x, half_y), angle, size in parts:
        if size > 0.1:
            half_axes = (half_x * scale * size, half_y * size * scale**0.5)
            level = ellipse_level(x, y, centre, half_axes, angle)
            np.maximum(fluid, soft_step(1.0 - np.sqrt(level), 1.2 / half_axes[0]), out=fluid)
    return fluid


def _cisterns(head: Head, x: Pixels, y: Pixels, z: float) -> Pixels:
    """The basal cisterns (a star around the midbrain) and the lateral fissures."""
    fluid = np.zeros((y.shape[0], x.shape[1]), dtype=np.float32)
    scale = head.sulci**0.5
    low = _bell(z, -22, 11)
    if low > 0.1:
        np.maximum(fluid, soft_step(1.0 - ellipse_level(x, y, (0, -12), (11 * scale, 6 * low)), 0.4), out=fluid)
        ring = np.sqrt(ellipse_level(x, y, (0, 10), (18, 15)))
        behind = soft_step(y - 8.0, 10.0)
        np.maximum(fluid, behind * soft_step(0.09 * scale * low - np.abs(ring - 1.0), 0.1), out=fluid)
    side = _bell(z, -4, 18)
    if side > 0.1:
        across = np.abs(x)
        line = -14.0 - 0.35 * (across - 34.0)
        stem = soft_step(np.float32(2.0 * scale * side) - np.abs(y - line), 1.5)
        np.maximum(fluid, stem * soft_step(across - 30.0, 6.0) * soft_step(68.0 - across, 10.0), out=fluid)
    return fluid


def _deep_grey(x: Pixels, y: Pixels, z: float) -> Pixels:
    """Thalami and lentiform nuclei."""
    strength = _bell(z, 4, 15)
    grey = np.zeros((y.shape[0], x.shape[1]), dtype=np.float32)
    if strength > 0.1:
        for sign in (-1.0, 1.0):
            for centre, half in (((sign * 9.0, 8.0), (7.0, 10.0)), ((sign * 24.0, -8.0), (6.0, 13.0))):
                level = ellipse_level(x, y, centre, half, sign * 0.4)
                np.maximum(grey, np.float32(strength) * soft_step(1.0 - level, 0.5), out=grey)
    return grey


def temporal_muscle(section: Section) -> Pixels:
    """Thickness in mm of the muscles outside the temples; they end above the ears."""
    height = float(np.clip((25.0 - section.z) / 40.0, 0.0, 1.0))
    side = np.exp(-np.square((np.abs(np.cos(section.angle)) - 0.95) / 0.2))
    muscle: Pixels = np.float32(10.0 * height) * side * soft_step(12.0 - section.y, 36.0)
    return muscle


def turn_from(section: Section, angle: float) -> Pixels:
    """The absolute angle in radians, 0..pi, between each pixel's direction from the centre and `angle`."""
    difference = np.mod(section.angle - np.float32(angle - np.pi), np.float32(2 * np.pi))
    turn: Pixels = np.abs(difference - np.float32(np.pi))
    return turn
