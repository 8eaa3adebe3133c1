"""A store of small radiographs with bright squares and dark bars, whose boxes are known, and its oracle of fROC."""

from __future__ import annotations

from pathlib import Path

import fcos_reference as reference
import numpy as np

from scoutview.images import Image, encode_spectrum, radial_spectrum
from scoutview.images.types import Modality, to_int16
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import Annotation, Store, StoreWriter, add_annotations, make_record
from scoutview.store.shards import Keys

ROWS, COLUMNS = 96, 120
SPLITS = ("train", "train", "validation", "test")


def box_of(generator: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom within the image."""
    left, top = int(generator.integers(2, COLUMNS - width - 2)), int(generator.integers(2, ROWS - height - 2))
    return left, top, left + width, top + height


def write_images(folder: Path, images: list[tuple[str, Modality, str, np.ndarray]]) -> Store:
    """A store of (id, modality, split, pixels uint8); an image is its own series and patient."""
    preprocessing = Preprocessing()
    with StoreWriter(folder, "test-salt") as writer:
        for name, modality, split, pixels in images:
            stored, slope, offset, shifted = to_int16(pixels)
            image = Image(stored, modality, slope, offset, shifted=shifted)
            spectrum = radial_spectrum(preprocess(stored, calibration_of(image), preprocessing))
            keys = Keys(name, f"patient-{name}", f"study-{name}", f"series-{name}", *[""] * 5, split)
            writer.add(make_record(image, keys, encode_spectrum(spectrum), preprocessing.identity()))
        writer.commit()
    return Store.open(folder)


def make_boxed_store(folder: Path, images: int = 16) -> Store:
    """Every fourth image is empty; others have a bright square, a dark bar, or both. All are searched for both."""
    generator = np.random.default_rng(0)
    written, annotations = [], []
    for number in range(images):
        pixels = generator.normal(120, 10, (ROWS, COLUMNS))
        name, kinds = f"image-{number:03d}", ((), ("square",), ("bar",), ("square", "bar"))[(number // 4 + number) % 4]
        for kind, size, value in (("square", (26, 26), 235), ("bar", (44, 18), 20)):
            if kind in kinds:
                left, top, right, bottom = box_of(generator, *size)
                pixels[top:bottom, left:right] = value
                corner = (float(left), float(top), float(right - left), float(bottom - top))
                annotations.append(Annotation(name, "box", kind, "1", *corner))
            else:
                annotations.append(Annotation(name, "box", kind, "0"))
        written.append((name, "xray", SPLITS[number % 4], pixels.clip(0, 255).astype(np.uint8)))
    store = write_images(folder, written)
    add_annotations(store, annotations)
    return store


def brute_froc(images: list[dict], name: str, limit: float, points: tuple[float, ...]) -> float:
    """Mean sensitivity of a class from the entries of detections.json, each threshold counted from the start.

    Scores must differ.
    """
    images = [image for image in images if name in image["known"]]
    found = sorted(
        (
            (box["score"], place, box["box"])
            for place, image in enumerate(images)
            for box in image["detections"]
            if box["class"] == name
        ),
        reverse=True,
    )
    truths = [[box["box"] for box in image["truths"] if box["class"] == name] for image in images]
    total = sum(map(len, truths))
    best = dict.fromkeys(points, 0.0)
    for number in range(len(found) + 1):
        taken: set[tuple[int, int]] = set()
        false = 0
        for _, place, box in found[:number]:
            over = [(reference.overlap(box, truth), k) for k, truth in enumerate(truths[place])]
            over = [(value, k) for value, k in over if value >= limit]
            free = [(value, k) for value, k in over if (place, k) not in taken]
            if free:
                taken.add((place, max(free)[1]))
            elif not over:
                false += 1
        for point in points:
            if false / len(images) <= point:
                best[point] = max(best[point], len(taken) / total)
    return float(np.mean(list(best.values())))
