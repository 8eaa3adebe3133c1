"""A folder of phantom patients: DICOM files, labels.csv, boxes.json, masks and the generator's version."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scoutview.errors import UsageError
from scoutview.files import write_json, write_text
from scoutview.phantoms.brain_mr import draw_brain_mr
from scoutview.phantoms.dicom import random_patient, write_dicom
from scoutview.phantoms.finding import LABELS, Slice
from scoutview.phantoms.head import section_spacing
from scoutview.phantoms.head_ct import draw_head_ct
from scoutview.phantoms.radiograph import draw_radiograph
from scoutview.phantoms.ultrasound import draw_ultrasound
from scoutview.phantoms.version import GENERATOR_VERSION

ALL_LABELS = tuple(label for modality in ("xray", "ct", "mr", "us") for label in LABELS[modality])
SLICE_THICKNESS = 5.0
"""mm; slices that lie closer than this are as thick as their distance."""


def write_phantoms(
    folder: Path, *, patients: dict[str, int], seed: int = 0, size: int | None = None, slices: int = 8
) -> Path:
    """Write an archive of labelled synthetic patients and return `folder`.

    patients: how many of each modality, by the keys "xray", "ct", "mr" and "us"; missing ones are 0.
    seed: patient n of a modality depends on the seed and n only, not on how many there are.
    size: rows and columns of every image in px; each modality's own size where it is None.
    slices: images of each CT and MR patient.

    Leaves in `folder`: images / xray, ct, mr, us / P0001 / 0001.dcm ...; labels.csv (file, patient and one column for
    every label: 0, 1, or blank where the modality has no such label); boxes.json (COCO: images, annotations,
    categories; bbox = [x, y, width, height] in px); masks/<modality>/P0001-0001-<label>.png (0 or 255, only
    where there is something to show); phantoms.json (generator version, seed, counts), written last.

    Raises UsageError for a modality that does not exist or a negative count.
    """
    for modality, count in patients.items():
        if modality not in LABELS:
            raise UsageError(f"phantoms: no modality {modality!r}; use {', '.join(LABELS)}")
        if count < 0:
            raise UsageError(f"phantoms: {count} {modality} patients; use 0 or more")
    rows: list[dict[str, str]] = []
    coco: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": label} for number, label in enumerate(ALL_LABELS, start=1)],
    }
    for modality in LABELS:
        for index in range(patients.get(modality, 0)):
            _write_patient(folder, modality, seed, index, _draw(modality, seed, index, size, slices), rows, coco)
    _write_labels(folder / "labels.csv", rows)
    write_json(folder / "boxes.json", coco)
    counts = {modality: patients.get(modality, 0) for modality in LABELS}
    write_json(
        folder / "phantoms.json",
        {
            "generator_version": GENERATOR_VERSION,
            "seed": seed,
            "size": size,
            "slices": slices,
            "patients": counts,
            "images": len(rows),
        },
    )
    return folder


def _draw(modality: str, seed: int, index: int, size: int | None, slices: int) -> list[Slice]:
    own_size: dict[str, int] = {} if size is None else {"size": size}
    match modality:
        case "xray":
            return [draw_radiograph(seed, index, **own_size)]
        case "ct":
            return draw_head_ct(seed, index, slices=slices, **own_size)
        case "mr":
            return draw_brain_mr(seed, index, slices=slices, **own_size)
        case _:
            return [draw_ultrasound(seed, index, **own_size)]


def _write_patient(
    folder: Path,
    modality: str,
    seed: int,
    index: int,
    images: list[Slice],
    rows: list[dict[str, str]],
    coco: dict[str, list[dict[str, Any]]],
) -> None:
    """Write one patient's files and add to `rows` and `coco`."""
    patient = random_patient(modality, seed, index)
    place = folder / "images" / modality / patient.folder
    place.mkdir(parents=True, exist_ok=True)
    gap = section_spacing(len(images))
    for number, image in enumerate(images, start=1):
        path = place / f"{number:04d}.dcm"
        write_dicom(path, patient, image, number, min(SLICE_THICKNESS, gap), gap)
        name = path.relative_to(folder).as_posix()
        labels = {label: str(value) for label, value in image.labels.items()}
        rows.append({"file": name, "patient": patient.identifier, **labels})
        _add_boxes(coco, name, image)
        for label, mask in image.masks.items():
            if mask.any():
                picture = folder / "masks" / modality / f"{patient.folder}-{number:04d}-{label}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(picture, compress_level=1)


def _add_boxes(coco: dict[str, list[dict[str, Any]]], name: str, image: Slice) -> None:
    identifier = len(coco["images"]) + 1
    height, width = image.pixels.shape
    coco["images"].append({"id": identifier, "file_name": name, "width": width, "height": height})
    for box in image.boxes:
        coco["annotations"].append(
            {
                "id": len(coco["annotations"]) + 1,
                "image_id": identifier,
                "category_id": ALL_LABELS.index(box.label) + 1,
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.width * box.height,
                "iscrowd": 0,
            }
        )


def _write_labels(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "patient", *ALL_LABELS], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
