"""Breast-like ultrasound: speckle in beam space under a map of echogenicity and attenuation, then scan conversion.

Echo amplitude at depth z: E(z) = s(z) * 10^(e(z)/20) * 10^(-a(z)/20), with s Rayleigh speckle, e the tissue's
echogenicity in dB and a(z) the attenuation in dB summed along the beam, less what the time-gain compensation
gives back. The image is 20 log10 E, put into a dynamic range of 45 to 70 dB. A cyst does not scatter and does
not attenuate: round, black, brighter tissue behind it. A mass scatters less and attenuates more: irregular,
grey, with a shadow. Fat lobules, ligament shadows and ducts look like either in brightness, and are healthy.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scoutview.phantoms.finding import Box, Mask, Pixels, Slice, box_around, union
from scoutview.phantoms.noise import blur, patient_generator, smooth_field, speckle
from scoutview.phantoms.shapes import ellipse_level, irregular_distance, soft_step

DEPTH = 45.0
"""mm from the probe to the bottom of the image."""


def draw_ultrasound(seed: int, index: int, size: int = 256) -> Slice:
    """Draw the ultrasound image of patient `index`.

    Returns one Slice of `size` x `size` px over 45 mm, float32 whole numbers 0..255; labels cyst and mass are
    independent, each present in half of the patients. Half of the images are sectors, half rectangles.
    """
    generator = patient_generator(seed, "us", index)
    has_cyst, has_mass = generator.random(2) < 0.5
    spacing = DEPTH / size
    # Beam space: rows are depth in mm, columns are lateral position in mm.
    z = ((np.arange(size) + 0.5) * spacing).astype(np.float32)[:, None]
    x = ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)[None, :]
    echo, loss = _tissue(generator, x, z, size)
    _healthy_lookalikes(generator, x, z, echo, loss)
    places = _places(generator)
    cysts: list[Mask] = []
    masses: list[Mask] = []
    if has_mass:
        masses.append(_mass(generator, x, z, places[0], echo, loss))
    if has_cyst:
        cysts.append(_cyst(generator, x, z, places[1], echo, loss))
    decibels = _received(generator, z, echo, loss, size)
    shown = _displayed(generator, decibels)
    if generator.random() < 0.5:
        where = _sector(generator, size)
        shown = ndimage.map_coordinates(shown, where, order=1, cval=0.0)
        cysts = [ndimage.map_coordinates(mask, where, order=0, cval=0) for mask in cysts]
        masses = [ndimage.map_coordinates(mask, where, order=0, cval=0) for mask in masses]
    pixels: Pixels = np.round(shown).astype(np.float32)
    masks = {"cyst": union(cysts, pixels.shape), "mass": union(masses, pixels.shape)}
    boxes: list[Box] = [box_around("cyst", mask) for mask in cysts]
    boxes += [box_around("mass", mask) for mask in masses]
    return Slice(pixels, {name: int(mask.any()) for name, mask in masks.items()}, masks, boxes, spacing)


def _places(generator: np.random.Generator) -> list[tuple[float, float]]:
    """Two places (x, z) in mm, left and right in random order, so that two findings never merge."""
    left = (float(generator.uniform(-11, -7)), float(generator.uniform(11, 26)))
    right = (float(generator.uniform(7, 11)), float(generator.uniform(11, 26)))
    return [left, right] if generator.random() < 0.5 else [right, left]


def _tissue(generator: np.random.Generator, x: Pixels, z: Pixels, size: int) -> tuple[Pixels, Pixels]:
    """Echogenicity in dB and attenuation in dB/mm of skin, fat, gland and muscle."""
    shape = (size, size)
    wave = smooth_field(generator, (2, size), (1, 5))[:1]
    fat_end = np.float32(generator.uniform(6, 13)) + 1.5 * wave
    gland_end = np.float32(generator.uniform(24, 36)) + 2.0 * smooth_field(generator, (2, size), (1, 4))[:1]
    in_gland = soft_step(z - fat_end, 1.5) * soft_step(gland_end - z, 1.5)
    in_muscle = soft_step(z - gland_end, 1.0)
    echo = np.full(shape, -12.0, dtype=np.float32)
    echo += np.float32(generator.uniform(4, 11)) * in_gland
    # Layered strands: stretched noise, of which only the crests shine.
    strands = smooth_field(generator, shape, (52, 9))
    echo += np.float32(generator.uniform(4, 8)) * np.clip(strands - 0.5, 0.0, 1.5)
    echo += np.float32(generator.uniform(1, 3)) * smooth_field(generator, shape, (10, 7))
    echo += in_muscle * (4.0 * smooth_field(generator, shape, (44, 5)) - np.float32(generator.uniform(0, 6)))
    echo += 12.0 * np.exp(-np.square((z - gland_end) / 0.5)) + 8.0 * np.exp(-np.square((z - fat_end) / 0.4))
    echo += 14.0 * soft_step(np.float32(generator.uniform(0.8, 1.8)) - z, 0.4)
    loss = np.full(shape, np.float32(generator.uniform(0.5, 0.9)), dtype=np.float32)
    return echo, loss


def _healthy_lookalikes(generator: np.random.Generator, x: Pixels, z: Pixels, echo: Pixels, loss: Pixels) -> None:
    """Fat lobules (grey ovals wider than tall with a bright capsule), ducts and ligament shadows, in place."""
    for _ in range(int(generator.integers(2, 7))):
        centre = (float(generator.uniform(-21, 21)), float(generator.uniform(4, 34)))
        half = float(generator.uniform(2.5, 7.0))
        level = ellipse_level(x, z, centre, (half, half * generator.uniform(0.3, 0.5)), generator.normal(0, 0.15))
        inside = soft_step(1.0 - level, 0.3)
        echo -= np.float32(generator.uniform(4, 11)) * inside
        echo += np.float32(generator.uniform(3, 7)) * np.exp(-np.square((level - 1.1) / 0.16))
    for _ in range(int(generator.integers(0, 4))):
        # A duct: black as a cyst, but a long thin tube.
        centre = (float(generator.uniform(-20, 20)), float(generator.uniform(8, 32)))
        level = ellipse_level(
            x, z, centre, (generator.uniform(4, 9), generator.uniform(0.5, 0.9)), generator.normal(0, 0.4)
        )
        echo -= 30.0 * soft_step(1.0 - level, 0.5)
    for _ in range(int(generator.integers(0, 4))):
        # A ligament or lost contact: the shadow starts near the skin and no body casts it.
        line, half = generator.uniform(-20, 20), generator.uniform(0.6, 3.0)
        column = np.exp(-np.square((x - np.float32(line) - 0.05 * z) / np.float32(half)))
        loss += (
            np.float32(generator.uniform(0.2, 0.9))
            * column
            * soft_step(z - generator.uniform(1, 10), 1.0)
            * soft_step(20.0 - z, 10.0)
        )
    if generator.random() < 0.5:
        # Through-transmission brightens a column without a cyst above it.
        middle = np.float32(generator.uniform(-20, 20))
        loss -= 0.25 * np.exp(-np.square((x - middle) / 3.0)) * soft_step(z - 8.0, 4.0) * soft_step(28.0 - z, 4.0)


def _cyst(
    generator: np.random.Generator, x: Pixels, z: Pixels, centre: tuple[float, float], echo: Pixels, loss: Pixels
) -> Mask:
    """Empty a smooth round region in place: -35 dB, no attenuation (hence enhancement), bright walls."""
    half = float(generator.uniform(2.0, 5.0))
    level = ellipse_level(x, z, centre, (half, half * generator.uniform(0.7, 0.95)), generator.normal(0, 0.1))
    inside = soft_step(1.0 - level, 0.12)
    echo[:] = echo * (1.0 - inside) - np.float32(generator.uniform(32, 45)) * inside
    wall = np.exp(-np.square((level - 1.05) / 0.12))
    steep = np.abs(z - centre[1]) / half
    echo += 8.0 * wall * steep
    # The compensation expects tissue's loss; a cyst has none, so what lies behind is over-corrected.
    loss -= np.float32(generator.uniform(0.9, 1.6)) * inside * np.float32(3.5 / half)
    mask: Mask = level < 1.0
    return mask


def _mass(
    generator: np.random.Generator, x: Pixels, z: Pixels, centre: tuple[float, float], echo: Pixels, loss: Pixels
) -> Mask:
    """Darken an irregular region in place: -8 to -15 dB with inner texture, a pale rim, and a shadow."""
    half = float(generator.uniform(3.0, 5.5))
    distance = irregular_distance(
        generator,
        x - np.float32(centre[0]),
        z - np.float32(centre[1]),
        (half, half * generator.uniform(0.8, 1.0)),
        0.3,
        9,
    )
    inside = soft_step(1.0 - distance, 0.15)
    texture = 2.5 * smooth_field(generator, echo.shape, (40, 40))
    dark = np.float32(generator.uniform(-26, -19)) + texture
    echo[:] = echo * (1.0 - inside) + dark * inside
    echo += 4.0 * np.exp(-np.square((distance - 1.2) / 0.15))
    loss += np.float32(generator.uniform(0.5, 1.2)) * inside * np.float32(4.0 / half)
    mask: Mask = distance < 1.0
    return mask


def _received(generator: np.random.Generator, z: Pixels, echo: Pixels, loss: Pixels, size: int) -> Pixels:
    """Echo in dB: speckle, two-way attenuation along each beam, and an imperfect time-gain compensation."""
    step = DEPTH / size
    pattern = speckle(generator, (size, size), (generator.uniform(0.7, 1.1), generator.uniform(1.4, 2.6)))
    attenuation = np.cumsum(loss * np.float32(step), axis=0)
    curve = smooth_field(generator, (size, 2), (4, 1))[:, :1]
    compensation = np.float32(generator.uniform(0.45, 0.85)) * z + 2.0 * curve
    level = echo - attenuation + compensation
    amplitude = pattern * np.power(np.float32(10.0), level / 20.0)
    # The electronic noise floor keeps a cyst from being perfectly black when the gain is high.
    floor = np.power(10.0, generator.uniform(-52, -36) / 20.0 + compensation / 40.0)
    decibels: Pixels = 20.0 * np.log10(amplitude + floor.astype(np.float32))
    return decibels


def _displayed(generator: np.random.Generator, decibels: Pixels) -> Pixels:
    """Log compression: 0..255 over a dynamic range below a random gain."""
    dynamic_range = generator.uniform(45, 68)
    top = generator.uniform(10, 26)
    above = blur(decibels, 0.5) - np.float32(top - dynamic_range)
    shown: Pixels = np.clip(above * np.float32(255.0 / dynamic_range), 0, 255)
    return shown


def _sector(generator: np.random.Generator, size: int) -> Pixels:
    """Coordinates [2, row, column] in beam space of a curved probe's image.

    The probe's surface is an arc of radius r0 around a point above the image; a pixel at distance r and angle
    t from it shows depth r - r0 of the beam t. Pixels outside the opening angle get coordinates outside.
    """
    radius = size * generator.uniform(0.35, 0.8)
    opening = generator.uniform(0.42, 0.62)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    sideways = columns - np.float32((size - 1) / 2)
    downwards = rows + np.float32(radius * np.cos(opening))
    depth = np.hypot(sideways, downwards) - np.float32(radius)
    depth *= np.float32(size / (size - radius * (1 - np.cos(opening))))
    beam = (np.arctan2(sideways, downwards) / np.float32(opening) + 1.0) * np.float32((size - 1) / 2)
    where: Pixels = np.stack([depth, beam])
    return where
