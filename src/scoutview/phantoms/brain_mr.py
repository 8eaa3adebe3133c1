"""Contrast-enhanced T1-weighted brain MR with metastases.

Signal S = B(x, y) * sum_k w_k s_k: tissue k has the brightness s_k (arbitrary units: fluid dark, grey < white,
fat and everything that takes up contrast agent bright), B is the receive coil's smooth bias field, and the
magnitude of the complex signal has Rician noise. Contrast agent fills vessels, sinuses and the choroid plexus
in every patient. A metastasis is a ball of 4 to 10 mm radius, solid or a ring, often with a dark halo of
oedema; a vessel is thinner, tubular, and goes on in the neighbouring slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoutview.phantoms.finding import Box, Mask, Pixels, Slice, box_around, union
from scoutview.phantoms.head import Head, Section, draw_section, random_head, section_positions, temporal_muscle
from scoutview.phantoms.noise import blur, patient_generator, rician, smooth_field
from scoutview.phantoms.shapes import ellipse_level, irregular_distance, soft_step, splat, wandering_paths


@dataclass(frozen=True)
class _Metastasis:
    """A ball at (x, y, z) mm of `radius` mm; `core` is the share of the radius that is necrotic, 0 if solid."""

    centre: tuple[float, float, float]
    radius: float
    core: float
    brightness: float
    halo: float
    shape: int


@dataclass(frozen=True)
class _Scan:
    """Signal of each tissue in arbitrary units, coil and noise of one scan, and its through-going vessels."""

    white: float
    grey: float
    fluid: float
    fat: float
    contrast: float
    gain: float
    noise: float
    vessels: Pixels


def draw_brain_mr(seed: int, index: int, slices: int = 8, size: int = 256) -> list[Slice]:
    """Draw the brain MR of patient `index` from the skull base upwards.

    Returns `slices` Slices of `size` x `size` px in arbitrary units (whole numbers >= 0). Half of the patients
    have one to seven metastases; a slice is labelled by what is visible in it.
    """
    generator = patient_generator(seed, "mr", index)
    ill = generator.random() < 0.5
    head = random_head(generator, size)
    positions = section_positions(slices)
    scan = _random_scan(generator)
    count = 1 + int(generator.integers(7)) if ill else 0
    metastases = [_random_metastasis(generator, head, positions) for _ in range(count)]
    return [_draw_slice(generator, head, scan, metastases, z, size) for z in positions]


def _random_scan(generator: np.random.Generator) -> _Scan:
    white = generator.uniform(0.9, 1.1)
    count = int(generator.integers(6, 14))
    return _Scan(
        white=white,
        grey=white * generator.uniform(0.72, 0.86),
        fluid=white * generator.uniform(0.25, 0.4),
        fat=white * generator.uniform(1.7, 2.6),
        contrast=white * generator.uniform(1.5, 2.2),
        gain=float(np.exp(generator.uniform(np.log(150), np.log(1200)))),
        noise=generator.uniform(0.025, 0.07),
        # x, y at z = 0, their drift per mm, and the radius in mm.
        vessels=np.column_stack(
            [
                generator.uniform(-48, 48, count),
                generator.uniform(-60, 60, count),
                generator.normal(0, 0.35, (count, 2)),
                generator.uniform(0.9, 1.7, count),
            ]
        ).astype(np.float32),
    )


def _random_metastasis(generator: np.random.Generator, head: Head, positions: list[float]) -> _Metastasis:
    """A ball near the border of cortex and white matter that reaches at least one slice well."""
    radius = float(generator.uniform(4.0, 10.0))
    z = positions[int(generator.integers(len(positions)))] + generator.uniform(-0.6, 0.6) * radius
    angle = generator.uniform(0, 2 * np.pi)
    away = generator.uniform(0.35, 0.78) * np.sqrt(max(0.3, 1.0 - (z / head.half_axes[2]) ** 2))
    return _Metastasis(
        centre=(
            float(head.half_axes[0] * away * np.cos(angle)),
            float(head.half_axes[1] * away * np.sin(angle)),
            float(z),
        ),
        radius=radius,
        core=float(generator.uniform(0.45, 0.7)) if radius > 5.0 and generator.random() < 0.6 else 0.0,
        brightness=float(generator.uniform(1.55, 2.2)),
        halo=float(generator.uniform(0.05, 0.3)),
        shape=int(generator.integers(2**31)),
    )


def _draw_slice(
    generator: np.random.Generator, head: Head, scan: _Scan, metastases: list[_Metastasis], z: float, size: int
) -> Slice:
    section = draw_section(generator, head, z, size)
    image = _healthy(generator, head, scan, section, size)
    found: list[Mask] = []
    for metastasis in metastases:
        mask = _add_metastasis(metastasis, scan, section, image)
        if mask.any():
            found.append(mask)
    shape = (size, size)
    bias = np.exp(np.float32(generator.uniform(0.06, 0.2)) * smooth_field(generator, shape, (2, 2)))
    signal = blur(image, float(generator.uniform(0.45, 0.75))) * bias
    pixels = np.round(np.float32(scan.gain) * rician(generator, signal, scan.noise)).astype(np.float32)
    masks = {"metastasis": union(found, shape)}
    boxes: list[Box] = [box_around("metastasis", mask) for mask in found]
    return Slice(pixels, {"metastasis": int(bool(found))}, masks, boxes, section.spacing, z)


def _healthy(generator: np.random.Generator, head: Head, scan: _Scan, section: Section, size: int) -> Pixels:
    """The section without metastases, white matter near 1."""
    depth = section.depth
    brain = np.float32(scan.white) - np.float32(scan.white - scan.grey) * section.cortex
    brain += 0.02 * smooth_field(generator, (size, size), (16, 16))
    fluid = np.maximum(np.maximum(section.sulci, section.fluid), section.cisterns)
    brain += fluid * (np.float32(scan.fluid) - brain)
    enhanced = np.maximum(0.35 * section.falx, _vessels(generator, head, scan, section, size))
    brain += np.clip(enhanced, 0.0, 1.0) * (np.float32(scan.contrast) - brain)
    outside = -depth - np.float32(head.skull)
    image = np.zeros((size, size), dtype=np.float32)
    muscle = temporal_muscle(section)
    thickness = np.float32(head.scalp) + muscle
    image += soft_step(thickness - outside, 1.0) * np.float32(scan.fat)
    image[np.abs(outside - thickness + 1.0) < 1.0] = scan.grey
    image += soft_step(muscle - outside, 1.5) * (muscle > 1.0) * (np.float32(0.8 * scan.grey) - image)
    marrow = np.exp(-np.square((depth / np.float32(head.skull) + 0.5) / 0.2))
    skull = 0.08 + 0.5 * marrow * np.float32(min(1.0, (head.skull - 4.0) / 3.0))
    image += soft_step(-outside, 1.0) * (skull - image)
    dura = 0.4 * np.exp(-np.square((depth + 0.5) / 0.8))
    image += soft_step(depth, 1.0) * (brain - image)
    image += dura * (np.float32(scan.contrast) - image)
    return image


def _vessels(generator: np.random.Generator, head: Head, scan: _Scan, section: Section, size: int) -> Pixels:
    """Contrast agent 0..1: through-going vessels, cortical branches in the plane, sinuses, choroid plexus."""
    x, y, z, depth = section.x, section.y, section.z, section.depth
    inside = soft_step(depth - 1.0, 2.0)
    filled = np.zeros((size, size), dtype=np.float32)
    for across, along, drift_across, drift_along, radius in scan.vessels:
        centre = (float(across + drift_across * z), float(along + drift_along * z))
        # A vessel that runs obliquely is cut in an ellipse.
        slant = float(1.0 + 1.5 * np.hypot(drift_across, drift_along))
        level = ellipse_level(x, y, centre, (radius * slant, radius), float(np.arctan2(drift_along, drift_across)))
        np.maximum(filled, soft_step(1.0 - level, 0.9), out=filled)
    count = int(generator.integers(7, 18))
    at = generator.uniform(0, 2 * np.pi, count)
    reach = 0.92 * float(np.median(section.table))
    starts = np.stack([reach * 0.88 * np.cos(at), reach * 1.08 * np.sin(at)], axis=1).astype(np.float32)
    heading = at + np.pi + generator.normal(0, 0.9, count)
    paths = wandering_paths(generator, starts, heading, generator.uniform(8, 40, count), 90, 1.2)
    fading = np.linspace(1.0, 0.3, 90)[None, :] * generator.uniform(0.2, 0.7, (count, 1))
    branches = splat(_to_image(head, paths.reshape(-1, 2)), fading.ravel(), size, section.spacing)
    np.maximum(filled, np.clip(1.5 * blur(branches, 0.6 / section.spacing), 0.0, 1.0), out=filled)
    wedge = soft_step(np.float32(generator.uniform(5, 9)) - depth - 0.9 * np.abs(x), 2.0)
    np.maximum(filled, wedge, out=filled)
    if z < -8:
        band = soft_step(y - 25.0, 10.0) * soft_step(np.float32(generator.uniform(3, 7)) - depth, 2.0)
        np.maximum(filled, band, out=filled)
    plexus = soft_step(smooth_field(generator, (size, size), (50, 50)) - 0.3, 1.0) * section.fluid
    np.maximum(filled, 0.8 * plexus * soft_step(y - 8.0, 8.0), out=filled)
    return filled * inside


def _to_image(head: Head, points: Pixels) -> Pixels:
    """Points [point, (x, y)] in the head's frame as mm from the image's centre: the inverse of `turned`."""
    cosine, sine = np.cos(head.angle), np.sin(head.angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    moved: Pixels = (points @ turn + np.array(head.shift)).astype(np.float32)
    return moved


def _add_metastasis(metastasis: _Metastasis, scan: _Scan, section: Section, image: Pixels) -> Mask:
    """Draw the section through one metastasis in place; returns its mask, empty where the slice misses it."""
    away = abs(section.z - metastasis.centre[2]) / metastasis.radius
    nothing = np.zeros(image.shape, dtype=np.bool_)
    if away > 0.85:
        return nothing
    radius = metastasis.radius * float(np.sqrt(1.0 - away**2))
    own = np.random.Generator(np.random.Philox(metastasis.shape))
    x, y = section.x - np.float32(metastasis.centre[0]), section.y - np.float32(metastasis.centre[1])
    distance = irregular_distance(own, x, y, (radius, radius * 0.88), 0.12)
    amount = soft_step(1.0 - distance, 1.2 / radius) * soft_step(section.depth - 1.5, 1.0)
    mask: Mask = amount > 0.5
    if mask.sum() * section.spacing**2 < 12.0:
        return nothing
    white = np.float32(scan.white)
    halo = np.float32(metastasis.halo) * np.exp(-np.square(distance / 2.0)) * soft_step(section.depth - 3.0, 2.0)
    image *= 1.0 - halo * (image < 1.15 * white)
    bright = white * np.float32(metastasis.brightness)
    image += amount * (bright - image)
    if metastasis.core > 0:
        core = soft_step(np.float32(metastasis.core) - distance, 1.2 / radius)
        image += core * (np.float32(0.7) * white - image)
    return mask
