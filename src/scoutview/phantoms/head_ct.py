"""Head CT in HU: a head of uniform tissues, five kinds of bleeding, and what looks like blood but is not.

HU = 1000 (mu - mu_water) / mu_water: air -1000, fat -80, fluid 8, white matter 28, grey matter 36, fresh blood
55 to 72, muscle 50 to 65, bone 600 to 1500. A pixel that two tissues share gets their weighted mean (partial
volume). The temporal muscles, a swollen scalp, the dura and the venous sinuses have blood's HU in every
patient, and calcifications exceed it: only the place and the shape tell. Bleedings differ by where they are:
a crescent under the skull crosses the sutures (subdural), a lens does not (epidural), sulci and cisterns fill
(subarachnoid), a level forms in the ventricles (intraventricular), a blob with a pale rim lies in the brain
(intraparenchymal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoutview.phantoms.finding import LABELS, Box, Mask, Pixels, Slice, box_around, union
from scoutview.phantoms.head import (
    Head,
    Section,
    draw_section,
    random_head,
    section_positions,
    temporal_muscle,
    turn_from,
)
from scoutview.phantoms.noise import blur, patient_generator, smooth_field
from scoutview.phantoms.shapes import ellipse_level, irregular_distance, soft_step

TYPES = LABELS["ct"][1:]
SMALLEST = 20.0
"""mm^2; a smaller piece of a bleeding in one slice is neither drawn nor labelled."""


@dataclass(frozen=True)
class _Bleed:
    """One bleeding: its kind, its centre (mm, and the angle from the head's centre), size and HU."""

    kind: str
    z: float
    reach: float
    angle: float
    place: tuple[float, float]
    size: float
    density: float
    shape: int


@dataclass(frozen=True)
class _Scan:
    """What one scan has in all slices: tissue HU, noise in HU, sharpness in px, calcifications and swelling."""

    grey: float
    white: float
    fluid: float
    bone: float
    muscle: float
    dura: float
    noise: float
    sharpness: float
    calcified: bool
    swelling: tuple[float, float, float]


def draw_head_ct(seed: int, index: int, slices: int = 8, size: int = 256) -> list[Slice]:
    """Draw the head CT of patient `index` from the skull base upwards.

    Returns `slices` Slices of `size` x `size` px in HU (whole numbers). Half of the patients bleed, a third of
    these in two compartments; a slice is labelled by what is visible in it.
    """
    generator = patient_generator(seed, "ct", index)
    bleeding = generator.random() < 0.5
    head = random_head(generator, size)
    scan = _random_scan(generator)
    bleeds: list[_Bleed] = []
    if bleeding:
        kinds = generator.permutation(len(TYPES))[: 1 + int(generator.random() < 0.35)]
        bleeds = [_random_bleed(generator, TYPES[kind]) for kind in kinds]
    return [_draw_slice(generator, head, scan, bleeds, z, size) for z in section_positions(slices)]


def _random_scan(generator: np.random.Generator) -> _Scan:
    drift = generator.normal(0, 2.0)
    return _Scan(
        grey=drift + generator.uniform(34, 39),
        white=drift + generator.uniform(26, 30),
        fluid=drift + generator.uniform(4, 12),
        bone=generator.uniform(800, 1400),
        muscle=drift + generator.uniform(48, 64),
        dura=drift + generator.uniform(48, 66),
        noise=generator.uniform(2.5, 6.5),
        sharpness=generator.uniform(0.45, 0.9),
        calcified=bool(generator.random() < 0.5),
        swelling=(
            float(generator.uniform(0, 2 * np.pi)),
            float(generator.uniform(2, 14) * (generator.random() < 0.6)),
            float(generator.uniform(-30, 45)),
        ),
    )


def _random_bleed(generator: np.random.Generator, kind: str) -> _Bleed:
    sign = 1.0 if generator.random() < 0.5 else -1.0
    size = {
        "subarachnoid": generator.uniform(22, 45),
        "subdural": generator.uniform(4.5, 10.0),
        "epidural": generator.uniform(9.0, 16.0),
        "intraventricular": generator.uniform(0.35, 0.8),
        "intraparenchymal": generator.uniform(7.0, 16.0),
    }[kind]
    reach = {
        "subarachnoid": size,
        "subdural": generator.uniform(22, 40),
        "epidural": generator.uniform(16, 28),
        "intraventricular": 40.0,
        "intraparenchymal": size,
    }[kind]
    sideways = 0.0 if sign > 0 else np.pi
    return _Bleed(
        kind=kind,
        z=float(np.clip(generator.normal(8.0, 20.0), -30, 45)),
        reach=float(reach),
        angle=float(sideways + generator.uniform(-0.8, 0.8)),
        place=(float(sign * generator.uniform(12, 40)), float(generator.uniform(-38, 40))),
        size=float(size),
        density=float(generator.uniform(54, 70)),
        shape=int(generator.integers(2**31)),
    )


def _draw_slice(
    generator: np.random.Generator, head: Head, scan: _Scan, bleeds: list[_Bleed], z: float, size: int
) -> Slice:
    section = draw_section(generator, head, z, size)
    image = _healthy(generator, head, scan, section)
    masks: dict[str, Mask] = {label: np.zeros((size, size), dtype=np.bool_) for label in LABELS["ct"]}
    boxes: list[Box] = []
    for bleed in bleeds:
        amount = _bleed_amount(bleed, section)
        mask: Mask = amount > 0.5
        if mask.sum() * section.spacing**2 < SMALLEST:
            continue
        if bleed.kind == "intraparenchymal":
            around = blur(amount, 4.0 / section.spacing) * soft_step(section.depth - 2.0, 3.0) * (1.0 - section.fluid)
            image -= 12.0 * np.clip(1.6 * around, 0.0, 1.0) * (1.0 - amount)
        texture = 3.0 * smooth_field(generator, (size, size), (24, 24))
        image += amount * (np.float32(bleed.density) + texture - image)
        masks[bleed.kind] = mask
        boxes.append(box_around(bleed.kind, mask))
    masks["hemorrhage"] = union([masks[kind] for kind in TYPES], (size, size))
    pixels = _acquired(generator, scan, image)
    labels = {label: int(mask.any()) for label, mask in masks.items()}
    return Slice(pixels, labels, masks, boxes, section.spacing, z)


def _healthy(generator: np.random.Generator, head: Head, scan: _Scan, section: Section) -> Pixels:
    """The section without bleeding, in HU."""
    size = section.depth.shape[0]
    depth = section.depth
    inside = soft_step(depth, 1.0)
    brain = np.float32(scan.white) + np.float32(scan.grey - scan.white) * section.cortex
    brain += 0.8 * smooth_field(generator, (size, size), (16, 16))
    fluid = np.maximum(np.maximum(section.sulci, section.fluid), section.cisterns)
    brain += fluid * (np.float32(scan.fluid) - brain)
    brain += section.falx * (np.float32(scan.dura) - brain)
    _venous_sinuses(generator, scan, section, brain)
    if scan.calcified:
        _calcifications(generator, section, brain)
    outside = -depth - np.float32(head.skull)
    image = _scalp(generator, head, scan, section, outside)
    thickness = -depth / np.float32(head.skull)
    spongy = np.exp(-np.square((thickness - 0.5) / 0.22))
    bone = np.float32(scan.bone) * (1.0 - 0.4 * spongy)
    image += soft_step(-outside, 1.0) * (bone - image)
    image += inside * (brain - image)
    _skull_base(generator, scan, section, image)
    # The head rest: a thin arc behind the head.
    rest = np.hypot(section.x, section.y + 20.0)
    behind = soft_step(1.5 - np.abs(rest - 132.0), 1.0) * (section.y > 40)
    image += behind * (np.float32(-300.0) - image)
    return image


def _scalp(generator: np.random.Generator, head: Head, scan: _Scan, section: Section, outside: Pixels) -> Pixels:
    """Air, skin, fat, the temporal muscles and, in some patients, a swollen scalp full of blood."""
    angle, swollen, height = scan.swelling
    turn = turn_from(section, angle)
    bump = np.float32(swollen * np.exp(-(((section.z - height) / 30.0) ** 2))) * np.exp(-np.square(turn / 0.45))
    muscle = temporal_muscle(section)
    thickness = np.float32(head.scalp) + bump + muscle
    image = np.full(outside.shape, -1000.0, dtype=np.float32)
    image += soft_step(thickness - outside, 1.0) * (np.float32(-75.0) + 1000.0)
    skin = np.abs(outside - thickness + 1.2) < 1.2
    image[skin] = 35.0
    image += soft_step(muscle - outside, 1.5) * (muscle > 1.0) * (np.float32(scan.muscle) - image)
    image += soft_step(bump - outside, 1.5) * (bump > 1.0) * (np.float32(generator.uniform(48, 68)) - image)
    return image


def _venous_sinuses(generator: np.random.Generator, scan: _Scan, section: Section, brain: Pixels) -> None:
    """The sagittal sinus at both ends of the falx and, low down, the transverse sinuses, in place."""
    density = np.float32(scan.dura + 4.0)
    ends = np.exp(-np.square(section.x / 5.0)) * soft_step(np.float32(generator.uniform(4, 8)) - section.depth, 3.0)
    brain += ends * (density - brain)
    if section.z < -8:
        side = soft_step(section.y - 25.0, 10.0) * soft_step(np.float32(generator.uniform(3, 7)) - section.depth, 2.0)
        brain += side * (density - brain)
    if section.z < 5 and generator.random() < 0.6:
        # The tentorium: two oblique lines.
        line = np.abs(section.y - 22.0 - 0.9 * np.abs(section.x))
        brain += np.exp(-np.square(line / 1.6)) * soft_step(section.y - 22.0, 4.0) * (np.float32(scan.dura) - brain)


def _calcifications(generator: np.random.Generator, section: Section, brain: Pixels) -> None:
    """Choroid plexus, pineal gland, falx and basal ganglia: small spots of 80 to 300 HU, in place."""
    spots = [
        (20.0, 22.0, 6.0),
        (-20.0, 22.0, 6.0),
        (0.0, 16.0, -2.0),
        (22.0, -6.0, 2.0),
        (-22.0, -6.0, 2.0),
        (0.0, -50.0, 30.0),
        (0.0, 40.0, 40.0),
    ]
    for x, y, z in spots:
        if abs(section.z - z) < 11.0 and generator.random() < 0.5:
            centre = (x + generator.normal(0, 1.5), y + generator.normal(0, 2.0))
            half = (generator.uniform(1.0, 2.5), generator.uniform(1.2, 3.5))
            level = ellipse_level(section.x, section.y, centre, half)
            brain += soft_step(1.0 - level, 0.8) * np.float32(generator.uniform(40, 220))


def _skull_base(generator: np.random.Generator, scan: _Scan, section: Section, image: Pixels) -> None:
    """Petrous ridges with air cells, and the frontal sinus, in the lowest slices, in place."""
    if section.z > -22:
        return
    across = np.abs(section.x)
    line = 4.0 + 0.45 * (across - 20.0)
    ridge = soft_step(np.float32(0.12) * across - np.abs(section.y - line), 2.0) * soft_step(across - 18.0, 6.0)
    ridge = ridge * soft_step(section.depth + 4.0, 2.0)
    cells = soft_step(smooth_field(generator, image.shape, (60, 60)) - 0.8, 0.6) * soft_step(across - 42.0, 8.0)
    image += ridge * (np.float32(0.8 * scan.bone) - 1100.0 * cells - image)
    sinus = ellipse_level(section.x, section.y, (0.0, float(section.y.min()) * 0.66), (20.0, 6.0))
    image += soft_step(1.0 - sinus, 0.4) * (section.depth < 3) * (np.float32(-800.0) - image)


def _bleed_amount(bleed: _Bleed, section: Section) -> Pixels:
    """The share of each pixel that a bleeding fills, 0..1. The section through a bleeding of half-height
    `reach` at distance d from its centre is smaller by sqrt(1 - (d / reach)^2)."""
    relative = abs(section.z - bleed.z) / bleed.reach
    if relative >= 1.0:
        return np.zeros_like(section.depth)
    shrink = float(np.sqrt(1.0 - relative**2))
    depth, inside = section.depth, soft_step(section.depth, 1.0)
    own = np.random.Generator(np.random.Philox(bleed.shape))
    turn = turn_from(section, bleed.angle)
    match bleed.kind:
        case "subdural":
            width = 1.15 * shrink
            profile = np.clip(1.0 - (turn / np.float32(width)) ** 4, 0.0, None)
            ragged = 1.0 + 0.15 * smooth_field(own, depth.shape, (10, 10))
            return soft_step(np.float32(bleed.size * shrink) * profile * ragged - depth, 1.0) * inside
        case "epidural":
            width = 0.42 * shrink
            profile = np.clip(1.0 - np.square(turn / np.float32(width)), 0.0, None)
            return soft_step(np.float32(bleed.size * shrink) * profile - depth, 1.0) * inside * (turn < width)
        case "subarachnoid":
            centre = (0.8 * bleed.place[0], bleed.place[1] - 6.0)
            near = np.sqrt(ellipse_level(section.x, section.y, centre, (bleed.size * shrink, bleed.size * shrink)))
            patchy = soft_step(1.0 - near + 0.2 * smooth_field(own, depth.shape, (9, 9)), 0.3)
            return np.maximum(section.sulci, section.cisterns) * patchy * inside
        case "intraventricular":
            # Blood sinks: everything behind a horizontal level in the lying patient.
            back = 34.0 - 44.0 * bleed.size
            return section.fluid * soft_step(section.y - np.float32(back), 2.0)
        case _:
            x, y = section.x - np.float32(bleed.place[0]), section.y - np.float32(bleed.place[1])
            radii = (bleed.size * shrink, 0.75 * bleed.size * shrink)
            distance = irregular_distance(own, x, y, radii, 0.25)
            return soft_step(1.0 - distance, 1.5 / radii[1]) * soft_step(depth - 3.0, 1.0)


def _acquired(generator: np.random.Generator, scan: _Scan, image: Pixels) -> Pixels:
    """The reconstructed slice: blurred, with cupping and correlated noise, rounded to whole HU."""
    shape = (image.shape[0], image.shape[1])
    blurred = blur(image, scan.sharpness)
    noise = blur(generator.standard_normal(shape, dtype=np.float32), 0.7)
    noise *= np.float32(scan.noise / 0.42)
    cupping = 1.5 * smooth_field(generator, shape, (3, 3))
    return np.round(np.clip(blurred + noise + cupping, -1024.0, 3071.0)).astype(np.float32)
