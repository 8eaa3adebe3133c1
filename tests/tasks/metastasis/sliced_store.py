"""A store of small volumes with bright spots, whose masks are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scoutview.images import Image, encode_spectrum, radial_spectrum
from scoutview.images.types import to_int16
from scoutview.store import Annotation, Store, StoreWriter, add_annotations, make_record
from scoutview.store.annotations import mask_annotation
from scoutview.store.shards import Keys

ROWS, COLUMNS, SLICES = 40, 52, 6
NAME = "spot"
SPLITS = ("train", "train", "validation", "test")


def image_id(patient: int, place: int) -> str:
    return f"image-{patient:02d}-{place}"


def write_volumes(folder: Path, volumes: dict[int, np.ndarray], splits: tuple[str, ...] = SPLITS) -> Store:
    """A store of MR volumes [slice, row, column] by patient; patient n is in split n % 4."""
    with StoreWriter(folder, "test-salt") as writer:
        for patient, pixels in volumes.items():
            for place, one in enumerate(pixels):
                stored, slope, offset, _ = to_int16(one.astype(np.int16))
                image = Image(
                    stored,
                    "mr",
                    slope,
                    offset,
                    spacing=(1, 1),
                    stack=f"stack-{patient}",
                    slice_index=place,
                    slice_spacing=2.0,
                    affine=(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 2.0 * place),
                )
                split = splits[patient % len(splits)]
                names = (f"patient-{patient}", f"study-{patient}", f"series-{patient}")
                keys = Keys(image_id(patient, place), *names, *[""] * 5, split, f"stack-{patient}")
                spectrum = encode_spectrum(radial_spectrum(stored.astype(np.float32) / 1000))
                writer.add(make_record(image, keys, spectrum, "other"))
        writer.commit()
    return Store.open(folder)


def make_sliced_store(folder: Path, patients: int = 24) -> tuple[Store, dict[str, np.ndarray]]:
    """(store, masks by image): every second volume of a split has a spot in two slices; all slices are looked at."""
    generator = np.random.default_rng(0)
    volumes, bitmaps, annotations = {}, {}, []
    for patient in range(patients):
        pixels = generator.normal(400, 40, (SLICES, ROWS, COLUMNS))
        masks = np.zeros(pixels.shape, dtype=bool)
        if patient // 4 % 2 == 0:
            first = int(generator.integers(SLICES - 1))
            row, column = int(generator.integers(4, ROWS - 12)), int(generator.integers(4, COLUMNS - 12))
            masks[first : first + 2, row : row + 8, column : column + 7] = True
        pixels[masks] = 900
        volumes[patient] = pixels
        for place, mask in enumerate(masks):
            name = image_id(patient, place)
            bitmaps[name] = mask
            if mask.any():
                annotations.append(mask_annotation(name, NAME, mask))
        # Whole series are said to have none; what is said of an image counts before it.
        annotations.append(Annotation(f"series-{patient}", "mask", NAME, "0"))
    store = write_volumes(folder, volumes)
    add_annotations(store, annotations)
    return store, bitmaps
