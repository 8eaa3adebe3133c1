"""A store whose catalog holds everything that `scoutview inspect` counts, drawn at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scoutview.images import FLAGS, MODALITIES, Image, encode_spectrum, radial_spectrum
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import Annotation, Record, Store, StoreWriter, add_annotations, make_record
from scoutview.store.shards import Keys

SPLITS = ("train", "validation", "test")


def random_store(folder: Path, images: int = 60, seed: int = 0) -> Store:
    """Images of four modalities with volumes, copies, several units, flags, labels, boxes, splits, refused files."""
    generator = np.random.default_rng(seed)
    records = [_record(generator, MODALITIES[number % 4], number) for number in range(images)]
    for number in range(0, images - 12, 9):  # copies, in the same modality and in another
        records[number + 4] = _with_pixels(records[number + 4], records[number])
        records[number + 5] = _with_pixels(records[number + 5], records[number])
    with StoreWriter(folder, "test-salt") as writer:
        for record in records:
            writer.add(record)
        for number in range(20):
            reason = str(generator.choice(["gap", "burned_in", "not_an_image", "no_decoder:1.2.3"]))
            detail = f"detail {generator.integers(3)}"
            writer.quarantine(f"/source/{generator.integers(10**6):06d}", reason, detail, f"file {number}", "")
    store = Store.open(folder)
    rows = store.rows()
    targets = [*(row.image for row in rows), *{row.series for row in rows}, *{row.study for row in rows}, "nothing"]
    for _ in range(3):  # later files replace parts of earlier ones
        add_annotations(store, [_statement(generator, targets) for _ in range(2 * images)])
    return store


def _record(generator: np.random.Generator, modality: Any, number: int) -> Record:
    def some(*values: Any) -> Any:
        return values[int(generator.integers(len(values)))]

    rows, columns = some((32, 40), (48, 36), (320, 300))
    pixels = generator.integers(0, 1000, (rows // 4, columns // 4)).repeat(4, 0).repeat(4, 1).astype(np.int16)
    spacing = some(None, (0.7, 0.7), (0.5, 0.25))
    stack = f"stack{generator.integers(3)}-{modality}" if modality in ("ct", "mr") and number % 5 else ""
    image = Image(
        pixels,
        modality,
        slope=some(1.0, 0.5),
        offset=some(-1024.0, 0.0),
        units="HU" if modality == "ct" and number % 3 else "",
        spacing=spacing,
        body_part=some("CHEST", "HEAD", ""),
        view=some("AP", ""),
        slice_index=number if stack else None,
        slice_spacing=some(None, 1.25, 2.5) if stack else None,
        flags=tuple(sorted({some(*FLAGS) for _ in range(generator.integers(3))})),
        source_format=some("dicom", "picture"),
        manufacturer=some("SIEMENS", "GE", ""),
    )
    spectrum = radial_spectrum(preprocess(pixels, calibration_of(image), Preprocessing()))
    keys = Keys(
        image=f"{generator.integers(2**60):032x}",
        patient=f"patient{generator.integers(12)}",
        study=f"study{generator.integers(20)}" if number % 7 else "",
        series=f"series{generator.integers(25)}" if number % 4 else "",
        file=f"file{number // 2}",
        path="",
        name="",
        instance="",
        stamp="",
        split=some(*SPLITS),
        stack=stack,
    )
    return make_record(image, keys, encode_spectrum(spectrum), Preprocessing().identity())


def _with_pixels(record: Record, other: Record) -> Record:
    """The record with the digest of another one's pixels."""
    return replace(record, row=replace(record.row, pixel_sha256=other.row.pixel_sha256))


def _statement(generator: np.random.Generator, targets: list[str]) -> Annotation:
    target = targets[int(generator.integers(len(targets)))]
    reader = f"reader {generator.integers(3)}"
    match int(generator.integers(4)):
        case 0:
            return Annotation(
                target, "split", f"name {generator.integers(2)}", str(generator.choice(SPLITS)), reader=reader
            )
        case 1:
            place = (1.0, 2.0, 3.0, 4.0) if generator.random() < 0.7 else (None,) * 4
            return Annotation(target, "box", "nodule", "1" if place[0] else "0", *place, reader=reader)
        case _:
            value = str(generator.choice(["0", "1", "?", "<b>"]))
            return Annotation(target, "label", f"finding {generator.integers(2)}", value, reader=reader)
