"""Head CT: the brain's box against what was drawn, the same head in any orientation, and what is refused."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

from scoutview.phantoms.head import draw_section, random_head, section_positions
from scoutview.phantoms.head_ct import draw_head_ct
from scoutview.phantoms.noise import patient_generator
from scoutview.preprocessing import HEAD_SHAPE, Box, NoBrainError, brain_box, head_volume

SLICES, SIZE = 22, 160


@lru_cache
def scan(index: int) -> tuple[np.ndarray, np.ndarray]:
    """HU [slice, row, column] of a drawn head, and its affine."""
    slices = draw_head_ct(5, index, SLICES, SIZE)
    spacing, step = slices[0].spacing, slices[1].position - slices[0].position
    affine = np.diag([spacing, spacing, step, 1.0])
    affine[:3, 3] = [-(SIZE - 1) / 2 * spacing, -(SIZE - 1) / 2 * spacing, slices[0].position]
    return np.stack([part.pixels for part in slices]), affine


def inside_skull(index: int) -> np.ndarray:
    """bool [slice, row, column]: what the drawing holds within the inner table."""
    generator = patient_generator(5, "ct", index)
    generator.random()  # whether the patient bleeds
    head = random_head(generator, SIZE)
    return np.stack(
        [draw_section(np.random.default_rng(0), head, z, SIZE).depth > 0 for z in section_positions(SLICES)]
    )


def ends(box: Box) -> np.ndarray:
    """Low and high ends [2, (z, y, x)] in mm."""
    centre, half = np.array(box.centre)[::-1], np.array(box.size) / 2
    return np.stack([centre - half, centre + half])


@pytest.mark.parametrize("index", range(4))
def test_the_box_is_that_of_the_brain_that_was_drawn(index: int) -> None:
    values, affine = scan(index)
    mask = inside_skull(index)
    low, high = [], []
    for axis in range(3):
        places = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
        low.append(places[0] - 0.5)
        high.append(places[-1] + 0.5)
    truth = np.stack([(affine @ [*edge[::-1], 1.0])[:3][::-1] for edge in (low, high)])
    found = ends(brain_box(values, affine))
    outside = np.stack([truth[0] - found[0], found[1] - truth[1]])
    assert outside.min() >= -1e-6  # nothing of the brain is lost
    assert outside.max() < 5.0


@pytest.mark.parametrize("index", range(2))
def test_pixels_are_the_window_of_the_cropped_head(index: int) -> None:
    values, affine = scan(index)
    head = head_volume(values, affine)
    assert head.pixels.shape == HEAD_SHAPE == (40, 224, 192)
    assert head.pixels.dtype == np.float32
    assert head.scanned.all()
    # Oracle: many samples of the old voxels in each new one (scipy), averaged, then windowed.
    samples = (3, 2, 2)
    fine = [np.arange(n * m) for n, m in zip(HEAD_SHAPE, samples, strict=True)]
    origin, factors = np.linalg.inv(affine) @ head.affine @ [0, 0, 0, 1], np.diag(np.linalg.inv(affine) @ head.affine)
    coordinates = [
        origin[2 - axis] + factors[2 - axis] * ((fine[axis] + 0.5) / samples[axis] - 0.5) for axis in range(3)
    ]
    sampled = ndimage.map_coordinates(values, np.meshgrid(*coordinates, indexing="ij"), order=1, mode="nearest")
    means = sampled.reshape(40, 3, 224, 2, 192, 2).mean((1, 3, 5))
    expected = np.clip((means + 45) / 200, 0, 1)
    assert np.abs(head.pixels - expected).mean() < 0.012
    # The skull frames it, the brain of 8 to 40 HU fills it.
    assert 0.3 < np.median(head.pixels[20]) < 0.45


def turned(index: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same head as other scanners store it."""
    values, affine = scan(index)
    coronal, sagittal = np.eye(4)[:, [0, 2, 1, 3]], np.eye(4)[:, [1, 2, 0, 3]]
    flipped = affine @ np.diag([-1.0, 1, -1, 1])
    flipped[:3, 3] = (affine @ [SIZE - 1, 0, SLICES - 1, 1])[:3]
    return {
        "coronal": (values.transpose(1, 0, 2), affine @ coronal),
        "sagittal": (values.transpose(2, 0, 1), affine @ sagittal),
        "upside down": (values[::-1, :, ::-1], flipped),
    }


@pytest.mark.parametrize("name", ["coronal", "sagittal", "upside down"])
def test_a_head_is_the_same_in_any_orientation(name: str) -> None:
    expected = head_volume(*scan(1))
    head = head_volume(*turned(1)[name])
    np.testing.assert_allclose(head.affine, expected.affine, atol=1e-6)
    np.testing.assert_allclose(head.pixels, expected.pixels, atol=1e-4)


def tilted(index: int, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The head as a tilted gantry scans it: rows shift with every slice, by scipy."""
    values, affine = scan(index)
    shear = np.tan(np.radians(degrees)) * affine[2, 2]
    sheared = affine.copy()
    sheared[1, 2] = shear
    sheared[1, 3] -= shear * (SLICES - 1) / 2
    moved = np.empty_like(values)
    for number, plane in enumerate(values):
        shift = -shear * (number - (SLICES - 1) / 2) / affine[1, 1]
        moved[number] = ndimage.shift(plane, (shift, 0), order=1, cval=-1000)
    return moved, sheared


def test_a_tilted_gantry_is_straightened() -> None:
    expected, head = head_volume(*scan(2)), head_volume(*tilted(2, 18.0))
    assert np.abs(ends(brain_box(*tilted(2, 18.0))) - ends(brain_box(*scan(2)))).max() < 2.1
    box = brain_box(*scan(2))
    head = head_volume(*tilted(2, 18.0), lambda values, affine: box)
    # At the skull, 1000 HU over 200 of the window, a second interpolation shows; in the brain it must not.
    inner = (slice(8, 34), slice(60, 160), slice(50, 140))
    assert np.abs(head.pixels - expected.pixels)[inner].mean() < 0.02
    assert np.abs(head.pixels - expected.pixels).mean() < 0.03


def test_spacing_does_not_matter() -> None:
    values, affine = scan(3)
    fine = np.repeat(np.repeat(values, 2, 1), 3, 0)
    small = affine @ np.diag([1, 1 / 2, 1 / 3, 1.0])
    small[:3, 3] = (affine @ [0, -0.25, -1 / 3, 1])[:3]
    expected = head_volume(values, affine)
    box = brain_box(values, affine)
    np.testing.assert_allclose(ends(brain_box(fine, small)), ends(box), atol=2.1)
    head = head_volume(fine, small, lambda *_: box)
    # Constant cells cut into smaller ones: the same where the new voxel is larger than an old one.
    assert np.abs(head.pixels - expected.pixels).mean() < 0.01


def test_landmarks_take_the_place_of_the_search() -> None:
    values, affine = scan(0)
    asked = []

    def landmarks(hounsfield: np.ndarray, where: np.ndarray) -> Box:
        asked.append((hounsfield.shape, where.shape))
        cosine, sine = np.cos(0.2), np.sin(0.2)
        axes = ((0.0, 0.0, 1.0), (-sine, cosine, 0.0), (cosine, sine, 0.0))
        return Box((0.0, 0.0, 40.0), (80.0, 150.0, 120.0), axes)

    head = head_volume(values, affine, landmarks)
    assert asked == [(values.shape, (4, 4))]
    # The box reaches from z = 0 to 80, the scan to 52.
    heights = head.affine[2, 3] + head.affine[2, 2] * np.arange(40)
    np.testing.assert_array_equal(head.scanned, heights <= 52)
    assert (head.pixels[~head.scanned] == 0).all()
    corner = head.affine @ [0, 0, 0, 1]
    local = np.array([[0, 0, 1], [-np.sin(0.2), np.cos(0.2), 0], [np.cos(0.2), np.sin(0.2), 0]]) @ (
        corner[:3] - [0, 0, 40]
    )
    np.testing.assert_allclose(local, [-39, -75 * 223 / 224, -60 * 191 / 192])


def test_neck_and_shoulders_do_not_move_the_box() -> None:
    values, affine = scan(1)
    low = np.full((20, SIZE, SIZE), -1000, dtype=np.float32)
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    spacing = affine[0, 0]
    radius = np.hypot(x, y) * spacing
    low[:, radius < 75] = 50  # muscle
    low[:, radius < 16] = 700  # vertebrae
    low[:, radius < 8] = 30  # spinal cord
    extended = np.concatenate([low, values])
    moved = affine.copy()
    moved[2, 3] -= 20 * affine[2, 2]
    box, expected = ends(brain_box(extended, moved)), ends(brain_box(values, affine))
    np.testing.assert_allclose(box[1], expected[1], atol=2.1)
    np.testing.assert_allclose(box[0, 1:], expected[0, 1:], atol=2.1)
    # Here the whole floor of the skull is open: the search may reach as far into the neck as its widest passage.
    assert -12 < box[0, 0] - expected[0, 0] < 2.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((10, 80, 80), -1000.0), "0 mL"),
        (np.full((10, 80, 80), 30.0), "0 mL"),
        (np.full((10, 80, 80), np.nan), "not finite"),
    ],
)
def test_volumes_without_a_brain_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(NoBrainError, match=message):
        head_volume(values, np.diag([2.0, 2.0, 5.0, 1.0]))


def test_a_scan_of_a_body_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(NoBrainError, match="no scan of a head"):
        brain_box(np.zeros((400, 4, 4), dtype=np.float32), np.diag([300.0, 300.0, 5.0, 1.0]))


def test_a_part_of_a_head_is_refused() -> None:
    values, affine = scan(1)
    with pytest.raises(NoBrainError, match="too little of one"):
        brain_box(values[:2], affine)
