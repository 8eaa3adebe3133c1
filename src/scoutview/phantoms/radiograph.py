"""Chest radiographs: the attenuation of a simple chest, added up along the beam.

The image is A(x, y) = sum_k mu_k t_k(x, y), mu_k in 1/mm and t_k the thickness in mm of tissue k along the
beam (Beer-Lambert: I = I0 exp(-A)). Tissues displace each other: the heart takes its thickness from the lung.
The detector adds quantum noise and the workstation's processing (local contrast, window, gamma) gives 0..4095
with bone bright. Lesions are soft spheres about as dense as a rib; a pneumothorax is lung without vessels
beyond a thin pleural line. Nipple shadows, skin folds, cables and end-on vessels occur with and without them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from scoutview.phantoms.chest import BONE, WATER, Lung, bones, lung_air, organs, random_lungs, torso, vessels
from scoutview.phantoms.finding import Box, Mask, Pixels, Slice, box_around, union
from scoutview.phantoms.noise import blur, patient_generator, quantum_noise, smooth_field
from scoutview.phantoms.shapes import (
    add_ellipsoid,
    chord,
    irregular_distance,
    pixel_grid,
    soft_step,
    turned,
    window_around,
)

FIELD_OF_VIEW = 400.0
"""mm; the side of the square detector."""


def draw_radiograph(seed: int, index: int, size: int = 384) -> Slice:
    """Draw the postero-anterior chest radiograph of patient `index`.

    Returns one Slice of `size` x `size` px over 400 mm, float32 0..4095, air dark; labels lesion and
    pneumothorax are independent, each present in half of the patients.
    """
    generator = patient_generator(seed, "xray", index)
    has_lesion, has_pneumothorax = generator.random(2) < 0.5
    spacing = FIELD_OF_VIEW / size
    x, y = pixel_grid(size, spacing)
    scale = np.float32(generator.uniform(0.88, 1.1))
    x, y = (x - np.float32(generator.normal(0, 8))) / scale, (y - np.float32(generator.normal(0, 10))) / scale

    lungs = random_lungs(generator)
    side = int(generator.integers(2))
    collapse = float(generator.uniform(0.16, 0.42))
    air, aerated, line, mask = lung_air(generator, lungs, x, y, (side, collapse) if has_pneumothorax else None)
    air = np.clip(air - organs(generator, x, y), 0.0, None)
    attenuation = WATER * (torso(generator, x, y) - 0.74 * air)
    attenuation += BONE * bones(generator, x, y)
    marbling = 0.015 * air * smooth_field(generator, (size, size), (52, 52))
    attenuation += WATER * aerated * (vessels(generator, lungs, size, spacing, x, y) + marbling)
    attenuation += line * (air > 0)
    attenuation += _confounders(generator, lungs, x, y)

    angle = float(generator.normal(0, 0.04))
    attenuation = _tilted(attenuation, angle)
    count = 1 + int(generator.integers(4)) if has_lesion else 0
    lesions: list[Mask] = [_add_lesion(generator, lungs, x, y, angle, attenuation) for _ in range(count)]
    pixels = _processed(generator, attenuation, size)
    _mark_side(generator, pixels, size)
    mask = _tilted(mask.astype(np.float32), angle) > 0.5 if mask.any() else mask
    masks = {"lesion": union(lesions, (size, size)), "pneumothorax": mask}
    boxes: list[Box] = [box_around("lesion", lesion) for lesion in lesions]
    if mask.any():
        boxes.append(box_around("pneumothorax", mask))
    labels = {name: int(region.any()) for name, region in masks.items()}
    return Slice(pixels, labels, masks, boxes, spacing)


def _tilted(image: Pixels, angle: float) -> Pixels:
    """`image` turned by `angle` radians about its centre.

    The chest is drawn upright, where most shapes are products of a row and a column function, and turned once.
    """
    middle = (image.shape[0] - 1) / 2 + 0.5
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    across = (cosine, -sine, middle - cosine * middle + sine * middle)
    down = (sine, cosine, middle - sine * middle - cosine * middle)
    picture = Image.fromarray(image)
    size = (image.shape[1], image.shape[0])
    turned_picture = picture.transform(size, Image.Transform.AFFINE, across + down, Image.Resampling.BILINEAR)
    return np.array(turned_picture, dtype=np.float32)


def _add_lesion(
    generator: np.random.Generator,
    lungs: tuple[Lung, Lung],
    x: Pixels,
    y: Pixels,
    angle: float,
    attenuation: Pixels,
) -> Mask:
    """Add one roundish nodule of 20 to 40 mm that lies in a lung, clear of its outline; returns its mask."""
    lung = lungs[int(generator.integers(2))]
    radius = float(generator.uniform(10.0, 20.0))
    while True:
        u, v = generator.uniform(-0.25, 0.85), generator.uniform(-0.75, 0.6)
        centre = (lung.centre[0] + lung.side * u * lung.half_axes[0], lung.centre[1] + v * lung.half_axes[1])
        if abs(u) ** 2.4 + abs(v) ** 2.4 < 0.7 and centre[1] < lung.diaphragm - radius:
            break
    # Where the turn of the chest about the image's middle takes that place.
    middle = (float(x.mean()), float(y.mean()))
    along, down = centre[0] - middle[0], centre[1] - middle[1]
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    centre = (middle[0] + cosine * along + sine * down, middle[1] + cosine * down - sine * along)
    window, near_x, near_y = window_around(x, y, centre, 1.7 * radius)
    near_x, near_y = near_x - np.float32(centre[0]), near_y - np.float32(centre[1])
    distance = irregular_distance(generator, near_x, near_y, (radius, radius * 0.88), 0.12)
    density = generator.uniform(1.5, 2.2) * min(1.0, 13.0 / radius)
    thickness = np.float32(density) * chord(np.square(distance), radius)
    attenuation[window] += np.float32(WATER) * thickness
    mask: Mask = np.zeros(attenuation.shape, dtype=np.bool_)
    mask[window] = distance < 0.95
    return mask


def _confounders(generator: np.random.Generator, lungs: tuple[Lung, Lung], x: Pixels, y: Pixels) -> Pixels:
    """Attenuation of what every chest may show: nipples, a skin fold, end-on vessels, cables."""
    balls = np.zeros((y.shape[0], x.shape[1]), dtype=np.float32)
    if generator.random() < 0.3:
        height, half = generator.uniform(45, 70), generator.uniform(78, 95)
        for sign in (-1, 1):
            add_ellipsoid(balls, x, y, (sign * half, height + generator.normal(0, 3)), (4.5, 4.0, 4.0))
    for _ in range(int(generator.integers(0, 9))):
        # A vessel that runs along the beam.
        lung = lungs[int(generator.integers(2))]
        centre = (lung.side * generator.uniform(42, 80), generator.uniform(-50, 40))
        add_ellipsoid(balls, x, y, centre, (2.6, 2.6, generator.uniform(4, 7)))
    added = WATER * balls
    if generator.random() < 0.35:
        # A fold is a step, not a line, and the vessels go on beyond it.
        lung = lungs[int(generator.integers(2))]
        u, _ = turned(
            x, y, float(generator.normal(0, 0.3)), (lung.centre[0] + generator.uniform(-10, 40) * lung.side, 0)
        )
        u = u * np.float32(lung.side)
        added += np.float32(generator.uniform(0.08, 0.16)) * soft_step(-u, 1.5) * soft_step(u + 40.0, 80.0)
    if generator.random() < 0.3:
        for _ in range(int(generator.integers(1, 4))):
            slope, bend = generator.normal(0, 0.5), generator.uniform(10, 40)
            path = generator.uniform(-150, 150) + slope * y + bend * np.sin(y / np.float32(generator.uniform(40, 90)))
            added += np.float32(generator.uniform(0.1, 0.3)) * soft_step(1.1 - np.abs(x - path), 1.0)
    return added


def _processed(generator: np.random.Generator, attenuation: Pixels, size: int) -> Pixels:
    """The presented image 0..4095: scatter, noise, local contrast, then a window and a gamma.

    Scattered photons are a smooth veil: the detector sees I + S mean(I) and its logarithm flattens dense
    regions. Local contrast subtracts a share of the blurred attenuation, as clinical processing does.
    """
    scatter = generator.uniform(0.005, 0.03)
    photons = generator.uniform(0.4e5, 3e5)
    noisy = attenuation + quantum_noise(generator, attenuation, photons * (size / 384) ** -2)
    seen = -np.log(np.exp(-noisy) + np.float32(scatter))
    coarse = Image.fromarray(blur(seen[::8, ::8], 5.0))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    seen = seen - np.float32(generator.uniform(0.45, 0.7)) * smooth
    low, high = np.percentile(seen[::4, ::4], [2.0, 99.0])
    low += generator.uniform(-0.05, 0.15) * (high - low)
    high += generator.uniform(-0.1, 0.3) * (high - low)
    step = np.clip((seen - np.float32(low)) * np.float32(4095.0 / (high - low)), 0.0, 4095.0).astype(np.int16)
    gamma = generator.uniform(0.7, 1.3)
    table = np.round(4095.0 * np.linspace(0.0, 1.0, 4096) ** gamma).astype(np.float32)
    shown: Pixels = table[step]
    return shown


def _mark_side(generator: np.random.Generator, pixels: Pixels, size: int) -> None:
    """Burn in the lead marker of the side and, sometimes, the edge of the collimator, in place."""
    if generator.random() < 0.7:
        row, column = int(size * generator.uniform(0.03, 0.12)), int(size * generator.uniform(0.86, 0.94))
        height, stroke = max(4, size // 28), max(1, size // 190)
        pixels[row : row + height, column : column + stroke] = 4095.0
        pixels[row + height - stroke : row + height, column : column + height // 2] = 4095.0
    if generator.random() < 0.3:
        edge = int(size * generator.uniform(0.01, 0.05))
        pixels[:edge] = pixels[size - edge :] = 0.0
