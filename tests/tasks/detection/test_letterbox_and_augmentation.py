"""Boxes go where the pixels go: letterbox against the images that the network sees, augmentation against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scoutview.errors import UsageError
from scoutview.tasks.detection import (
    Changes,
    DetectionAugmentation,
    change_boxes,
    change_images,
    draw_changes,
    make_letterbox,
)
from scoutview.views import network_input, rescale

SHAPES = [(300, 200), (200, 300), (77, 513), (128, 128), (40, 25), (1, 700)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [96, 160])
def test_the_letterbox_is_where_the_network_sees_the_image(shape: tuple[int, int], size: int) -> None:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    box = make_letterbox(*shape, size)
    left, top, right, bottom = (int(side) for side in box.area)
    expected = np.zeros((size, size), dtype=np.float32)
    expected[top:bottom, left:right] = rescale(image, bottom - top, right - left).clip(0, 1)
    np.testing.assert_array_equal(network_input(image, size), expected)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_a_spot_moves_as_its_box(shape: tuple[int, int]) -> None:
    """The centre of mass of a smooth spot, before and after."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    for x, y in ((0.3, 0.6), (0.7, 0.4)):
        center = x * shape[1], y * shape[0]
        width = 0.06 * min(shape)
        spot = np.exp(-((columns - center[0]) ** 2 + (rows - center[1]) ** 2) / (2 * width**2)).astype(np.float32)
        seen = network_input(spot, 128)
        away_y, away_x = (np.average(axis, weights=seen) for axis in np.mgrid[:128, :128] + 0.5)
        side = np.asarray([-1, -1, 1, 1]) * 3
        mapped = make_letterbox(*shape, 128).into(np.asarray([*center, *center]) + side)[0]
        np.testing.assert_allclose([away_x, away_y], (mapped[:2] + mapped[2:]) / 2, atol=0.1)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(32, 1024), st.integers(0, 2**32 - 1))
def test_boxes_come_back(rows: int, columns: int, size: int, seed: int) -> None:
    corners = np.sort(np.random.default_rng(seed).random((5, 2, 2)), axis=1).reshape(5, 4) * [
        columns,
        rows,
        columns,
        rows,
    ]
    letterbox = make_letterbox(rows, columns, size)
    inside = letterbox.into(corners)
    np.testing.assert_allclose(letterbox.back(inside), corners, atol=1e-8 * max(rows, columns))
    left, top, right, bottom = letterbox.area
    assert (inside >= np.asarray([left, top] * 2) - 1e-9).all()
    assert (inside <= np.asarray([right, bottom] * 2) + 1e-9).all()
    np.testing.assert_allclose(letterbox.into([0, 0, columns, rows]), [letterbox.area])


def test_boxes_of_the_padding_end_at_the_image() -> None:
    letterbox = make_letterbox(100, 200, 64)
    np.testing.assert_allclose(letterbox.back([[-5.0, 0.0, 64.0, 64.0]]), [[0.0, 0.0, 200.0, 100.0]])
    assert letterbox.into([]).shape == letterbox.back([]).shape == (0, 4)
    with pytest.raises(UsageError, match="at least 1"):
        make_letterbox(0, 5, 64)


SHAPE = (60, 90)


def random_boxes(generator: np.random.Generator, count: int) -> torch.Tensor:
    corners = np.sort(generator.integers(0, [[91, 61]], (count, 2, 2)), axis=1).reshape(count, 4)
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    corners[:, :2] -= (corners[:, 2:] > [90, 60]).astype(int)
    corners[:, 2:] = np.minimum(corners[:, 2:], [90, 60])
    return torch.tensor(corners, dtype=torch.float32)


@pytest.mark.parametrize("seed", range(5))
def test_images_equal_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = torch.from_numpy(generator.random((3, 1, *SHAPE)).astype(np.float32))
    boxes = [random_boxes(generator, number) for number in range(3)]
    changes = draw_changes(DetectionAugmentation(zoom=(0.7, 1.4), shift=0.2), boxes, SHAPE, generator)
    found = change_images(images, changes)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    for place in range(3):
        zoom, (right, down) = float(changes.zoom[place]), changes.shift[place].tolist()
        # The point that moves to (x, y), in numbers of pixels whose centres lie at a half.
        source = (y - 30 - down) / zoom + 30 - 0.5, (x - 45 - right) / zoom + 45 - 0.5
        moved = ndimage.map_coordinates(images[place, 0].double().numpy(), source, order=1, mode="grid-constant")
        expected = moved * float(changes.gain[place]) + float(changes.bias[place])
        np.testing.assert_allclose(found[place, 0], expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_are_where_their_pixels_are(seed: int) -> None:
    """A box is drawn as pixels, the image is changed, and the pixels that are then bright are bounded again."""
    generator = np.random.default_rng(seed)
    boxes = random_boxes(generator, 4)
    changes = draw_changes(DetectionAugmentation(zoom=(0.7, 1.4), shift=0.2), [boxes], SHAPE, generator)
    plain = Changes(changes.zoom, changes.shift, torch.ones(1), torch.zeros(1))
    moved = change_boxes(boxes, changes, 0, SHAPE)
    for (left, top, right, bottom), box in zip(boxes.int().tolist(), moved, strict=True):
        if min(right - left, bottom - top) < 3:
            continue
        image = torch.zeros(1, 1, *SHAPE)
        image[..., top:bottom, left:right] = 1
        rows, columns = np.nonzero(change_images(image, plain)[0, 0].numpy() > 0.49)
        bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(bounds, box, atol=1.01)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_no_box_is_cut(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    boxes = random_boxes(generator, count)
    again = np.random.default_rng(seed + 1)
    changes = draw_changes(DetectionAugmentation(zoom=(0.5, 1.8), shift=0.4), [boxes], SHAPE, again)
    moved = change_boxes(boxes, changes, 0, SHAPE)
    zoom, shift = float(changes.zoom[0]), changes.shift[0]
    torch.testing.assert_close(moved[:, 2:] - moved[:, :2], zoom * (boxes[:, 2:] - boxes[:, :2]), atol=1e-3, rtol=0)
    assert (moved >= 0).all()
    assert (moved[:, 2:] <= torch.tensor([90.0, 60.0])).all()
    raw = np.random.default_rng(seed + 1)
    raw_zoom, raw_shift = raw.uniform(0.5, 1.8, 1)[0], raw.uniform(-0.4, 0.4, (1, 2))[0] * [90, 60]
    if not count:
        assert zoom == pytest.approx(raw_zoom)
    assert zoom <= raw_zoom * (1 + 1e-6)
    # What was not drawn is a limit: some box touches the border.
    if zoom < raw_zoom * (1 - 1e-6):
        sides = moved.amax(0)[2:] - moved.amin(0)[:2]
        assert (torch.tensor([90.0, 60.0]) - sides).min() < 1e-2
    for axis, length in ((0, 90.0), (1, 60.0)):
        if abs(float(shift[axis]) - raw_shift[axis]) > 1e-4:
            assert min(float(moved[:, axis].min()), length - float(moved[:, 2 + axis].max())) < 1e-2


def test_the_draws_of_an_image_do_not_depend_on_the_boxes_of_another() -> None:
    generator = np.random.default_rng(3)
    boxes = [random_boxes(generator, number) for number in (3, 0, 2)]
    one = draw_changes(DetectionAugmentation(), boxes, SHAPE, np.random.default_rng(0))
    other = draw_changes(DetectionAugmentation(), [boxes[2], *boxes[1:]], SHAPE, np.random.default_rng(0))
    for a, b in zip(vars(one).values(), vars(other).values(), strict=True):
        assert torch.equal(a[1:], b[1:])
