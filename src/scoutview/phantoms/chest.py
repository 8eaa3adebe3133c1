"""The healthy chest in mm: how thick air, water and bone are along the beam, and where a pneumothorax lies.

x grows to the image's right (patient left), y grows downwards, from the middle of the chest. The grid is upright,
x [1, column] and y [row, 1], so that most shapes are a function of the column times one of the row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoutview.phantoms.finding import Array, Mask, Pixels
from scoutview.phantoms.noise import blur
from scoutview.phantoms.shapes import (
    add_ellipsoid,
    chord,
    ellipse_level,
    soft_step,
    splat,
    wandering_paths,
    window_around,
)

WATER, BONE = 0.018, 0.035
"""Attenuation in 1/mm at about 80 keV: soft tissue, and what bone adds to it."""


@dataclass(frozen=True)
class Lung:
    """A superellipse |u|^2.4 + |v|^2.4 = 1 in mm, cut by the dome of the diaphragm; side -1 is image left."""

    side: int
    centre: tuple[float, float]
    half_axes: tuple[float, float]
    diaphragm: float

    def level(self, x: Pixels, y: Pixels, collapse: float = 0.0) -> Pixels:
        """0 in the middle, 1 on the outline; `collapse` shrinks the lung towards its root by that share."""
        width, height = self.half_axes
        centre_x = np.float32(self.centre[0] - self.side * collapse * width)
        centre_y = np.float32(self.centre[1] + 0.6 * collapse * height)
        u = np.abs(x - centre_x) / np.float32(width * (1 - collapse))
        v = np.abs(y - centre_y) / np.float32(height * (1 - 0.6 * collapse))
        level: Pixels = u ** np.float32(2.4) + v ** np.float32(2.4)
        return level

    def above_diaphragm(self, x: Pixels, y: Pixels) -> Pixels:
        """1 above the dome of the diaphragm, 0 below; x and y in mm."""
        dome = self.diaphragm + 0.006 * np.square(x - np.float32(0.85 * self.centre[0]))
        return soft_step(dome - y, 5.0)


def random_lungs(generator: np.random.Generator) -> tuple[Lung, Lung]:
    """The lungs of a patient, that of image left first."""
    width, height = generator.uniform(56, 68), generator.uniform(105, 130)
    middle, dome = generator.uniform(70, 78), generator.uniform(60, 95)
    top = generator.normal(-8, 6)
    return (
        Lung(-1, (-middle, top), (width, height), dome),
        Lung(1, (middle, top), (width * generator.uniform(0.94, 1.02), height), dome + generator.uniform(2, 14)),
    )


def torso(generator: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    """Thickness in mm of an elliptic trunk that narrows to the neck, with breasts in some patients."""
    chest = np.float32(generator.uniform(165, 205))
    neck = np.float32(generator.uniform(52, 68))
    slope = 1.0 / (1.0 + np.exp(-(y + np.float32(generator.uniform(150, 162))) / np.float32(generator.uniform(7, 13))))
    half_width = neck + (chest - neck) * slope
    half_depth = generator.uniform(85, 125) * (0.7 + 0.3 * slope)
    thickness: Pixels = 2.0 * half_depth.astype(np.float32) * np.sqrt(np.clip(1 - np.square(x / half_width), 0, None))
    if generator.random() < 0.4:
        radius, drop = generator.uniform(50, 75), generator.uniform(40, 75)
        for sign in (-1, 1):
            level = ellipse_level(x, y, (sign * generator.uniform(80, 95), drop), (radius, radius * 0.85))
            thickness += chord(level, generator.uniform(8, 22)) * soft_step(np.asarray(y - drop + 40), 70.0)
    return thickness


def lung_air(
    generator: np.random.Generator,
    lungs: tuple[Lung, Lung],
    x: Pixels,
    y: Pixels,
    pneumothorax: tuple[int, float] | None,
) -> tuple[Pixels, Pixels, Pixels, Mask]:
    """Air thickness in mm, where vessels are (0..1), the pleural line's attenuation, and the pneumothorax."""
    air = np.zeros((y.shape[0], x.shape[1]), dtype=np.float32)
    aerated = np.zeros_like(air)
    line = np.zeros_like(air)
    mask = np.zeros(air.shape, dtype=np.bool_)
    depth = generator.uniform(70, 95)
    for number, lung in enumerate(lungs):
        level = lung.level(x, y)
        cut = lung.above_diaphragm(x, y)
        air += 2.0 * np.float32(depth) * np.sqrt(np.clip(1.0 - level, 0.0, None)) * cut
        inside = soft_step(1.0 - level, 0.1) * cut
        if pneumothorax is not None and pneumothorax[0] == number:
            collapsed = lung.level(x, y, pneumothorax[1])
            edge = np.float32(lung.half_axes[0] * (1 - pneumothorax[1]) / 2.4)
            distance = (collapsed - 1.0) * edge
            # The free air collects at the apex and along the ribs, never at the root of the lung.
            lateral = soft_step(lung.side * (x - np.float32(lung.centre[0] - lung.side * 25)), 40.0)
            beyond = soft_step(distance, 2.0) * lateral * inside
            strength = generator.uniform(0.16, 0.28)
            line += np.float32(strength) * np.exp(-np.square(distance / np.float32(1.1))) * lateral * inside
            # The collapsed lung holds less air than the space around it.
            air *= 1.0 - 0.18 * inside * (1.0 - beyond)
            air += 14.0 * beyond
            mask = (beyond > 0.5) & (cut > 0.5)
            inside = inside * (1.0 - beyond)
        aerated += inside
    return air, np.clip(aerated, 0.0, 1.0), line, mask


def organs(generator: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    """Thickness in mm that heart, aorta and mediastinum take from the lung."""
    thickness = np.zeros((y.shape[0], x.shape[1]), dtype=np.float32)
    heart = (generator.uniform(18, 34), generator.uniform(30, 50))
    half_axes = (generator.uniform(52, 74), generator.uniform(42, 56), generator.uniform(70, 90))
    add_ellipsoid(thickness, x, y, heart, half_axes, generator.uniform(0.4, 0.8))
    add_ellipsoid(thickness, x, y, (generator.uniform(18, 28), -48), (17, 20, 60))
    half_width = np.float32(generator.uniform(24, 32)) + 10.0 * soft_step(-y - 60.0, 60.0)
    thickness += 200.0 * soft_step(half_width - np.abs(x), 8.0)
    # The root of each lung: a cluster of large vessels.
    for sign in (-1, 1):
        for _ in range(4):
            centre = (sign * generator.uniform(32, 44), generator.uniform(-32, 14))
            half_axes = (generator.uniform(6, 13), generator.uniform(8, 17), generator.uniform(8, 16))
            add_ellipsoid(thickness, x, y, centre, half_axes, generator.uniform(-0.6, 0.6))
    return thickness


def bones(generator: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    """Thickness in mm of bone: spine, ribs behind and in front, clavicles, scapulae, minus the trachea's air."""
    spine = generator.uniform(10, 17) * soft_step(18.0 - np.abs(x), 8.0)
    discs = 0.78 + 0.22 * np.cos(2 * np.pi * y / np.float32(generator.uniform(23, 28)))
    bone: Pixels = (spine * discs).astype(np.float32)
    thorax = np.float32(generator.uniform(138, 150))
    reach = thorax * np.sqrt(np.clip(1.0 - np.square((y - 20.0) / 200.0), 0.05, None))
    r = np.abs(x) / thorax
    spacing = generator.uniform(22, 27)
    behind = -22.0 * np.sin(2.2 * r) + generator.uniform(48, 70) * r**3
    front = generator.uniform(62, 85) * (0.85 - r) - 12.0 * np.sin(3.0 * r)
    within = soft_step(reach - np.abs(x), 4.0)
    shown = soft_step(y + 135.0, 20.0) * soft_step(150.0 - y, 120.0)
    bone += _rib_family(generator, y - behind, spacing, 6.4, 5.0) * within * shown
    cartilage = soft_step(np.abs(x) - 62.0, 30.0)
    bone += (
        _rib_family(generator, y - front, spacing * 1.08, 6.8, 3.6) * within * cartilage * soft_step(y + 120.0, 30.0)
    )
    rise = generator.uniform(0.05, 0.3)
    top = slice(0, int(np.searchsorted(y[:, 0], -75.0)))
    for sign in (-1, 1):
        along = sign * x
        height = generator.uniform(-122, -108) - rise * along + 6.0 * np.sin(along / 28.0)
        tube = np.square((y[top] - height) / 7.5)
        bone[top] += chord(tube, 4.5) * (soft_step(along - 14.0, 6.0) * soft_step(165.0 - along, 10.0))
        centre = (sign * generator.uniform(142, 160), -62.0)
        window, near_x, near_y = window_around(x, y, centre, 72.0)
        blade = ellipse_level(near_x, near_y, centre, (34, 68), sign * 0.25)
        bone[window] += np.float32(generator.uniform(1.0, 3.0)) * soft_step(1.0 - blade, 0.12)
    windpipe = np.square((x - np.float32(generator.normal(0, 2))) / 9.0)
    bone -= WATER / BONE * chord(windpipe, 9.0) * soft_step(-25.0 - y, 20.0)
    return bone


def _rib_family(generator: np.random.Generator, y: Array, spacing: float, radius: float, amount: float) -> Pixels:
    """Thickness in mm of equally spaced tubes around y = k spacing; the cortex makes the edges brighter."""
    # The profile depends on one number, so it is tabled once: `fine` steps from each rib to the next.
    fine, low = 96, int(np.floor(float(y.min()) / spacing)) - 1
    count = int(np.ceil(float(y.max()) / spacing)) + 2 - low
    u = np.arange(count * fine) / fine + generator.random()
    offsets = generator.normal(0.0, 0.035, 64)
    d = (u % 1.0 - 0.5 + offsets[u.astype(int)]) * spacing
    outer = np.sqrt(np.clip(1.0 - np.square(d / radius), 0.0, None))
    inner = np.sqrt(np.clip(1.0 - np.square(d / (0.78 * radius)), 0.0, None))
    profile = (2.0 * amount * (outer - 0.55 * inner)).astype(np.float32)
    tube: Pixels = profile[((y - np.float32(low * spacing)) * np.float32(fine / spacing)).astype(np.int32)]
    return tube


def vessels(
    generator: np.random.Generator,
    lungs: tuple[Lung, Lung],
    size: int,
    spacing: float,
    x: Pixels,
    y: Pixels,
) -> Pixels:
    """Thickness in mm of branching vessels that leave the root of each lung and thin out towards the pleura.

    A vessel of radius r adds pi r^2 per unit of its length, spread over a Gaussian as wide as the vessel.
    """
    points, masses = [], []
    for lung in lungs:
        count = int(generator.integers(16, 24))
        outwards = 0.0 if lung.side > 0 else np.pi
        root = np.array([lung.side * 38.0, -8.0])
        starts = root + generator.normal(0, 9, (count, 2))
        heading = outwards + np.linspace(-1.45, 1.45, count) + generator.normal(0, 0.12, count)
        lengths = generator.uniform(55, 120, count)
        trunks = wandering_paths(generator, starts, heading, lengths, 70, 0.5)
        fork = generator.integers(12, 55, 4 * count)
        parent = np.repeat(np.arange(count), 4)
        twigs = wandering_paths(
            generator,
            trunks[parent, fork],
            heading[parent] + generator.choice([-1, 1], 4 * count) * generator.uniform(0.3, 0.9, 4 * count),
            generator.uniform(20, 60, 4 * count),
            50,
            0.6,
        )
        taper = np.linspace(1.0, 0.4, 70)[None, :] * generator.uniform(3.2, 4.6, (count, 1))
        thin = np.linspace(1.0, 0.5, 50)[None, :] * generator.uniform(1.4, 2.4, (4 * count, 1))
        points += [trunks.reshape(-1, 2), twigs.reshape(-1, 2)]
        masses.append((taper**2 * (lengths / 70)[:, None]).ravel())
        masses.append((thin**2 * 0.8).ravel())
    strength = generator.uniform(1.0, 1.6) * np.pi / spacing**2
    # Points are in the chest's mm; the image's origin and scale follow from the coordinates.
    step = float(x[0, 1] - x[0, 0])
    origin = np.array([x[0].mean(), y[:, 0].mean()])
    points = [(path - origin) * (spacing / step) for path in points]
    wide = splat(np.concatenate(points[0::2]), np.concatenate(masses[0::2]), size, spacing)
    fine = splat(np.concatenate(points[1::2]), np.concatenate(masses[1::2]), size, spacing)
    return np.float32(strength) * (blur(wide, 1.5 / spacing) + blur(fine, 0.8 / spacing))
