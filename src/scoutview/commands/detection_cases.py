"""A detector on the test split: its figures, every box in detections.json, and a page of the images, worst first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scoutview.batches import Archive, read_unit_image
from scoutview.errors import UsageError
from scoutview.files import write_text
from scoutview.metrics import CaseScores, case_errors, case_table, evaluate_detections
from scoutview.report import CASE_PAGE, CASE_PICTURES, Case, CaseBox, thumbnail, write_case_page
from scoutview.report.wording import series
from scoutview.tasks import Evaluation
from scoutview.tasks.detection import (
    DetectionCases,
    Detections,
    Detector,
    boxes_of,
    detect,
    load_detector,
    read_findings,
    truths_of,
)
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import device

DETECTIONS = "detections.json"
DRAWN = 5
"""Boxes of the detector in a picture, the highest scores: a hundred faint ones would hide it."""


def evaluate_detection(run: Path, archive: Archive) -> Evaluation:
    """AUC and AP of cases and the fROC of a detector; saves detections.json and cases.html.

    Raises:
        UsageError: if the run holds no detector, or a class is known of no test image.
    """
    model = load_detector(run)
    cases = read_findings(archive).cases(archive, model.classes, ("test",))
    absent = [name for name, known in zip(model.classes, cases.known.T, strict=True) if not known.any()]
    if absent:
        raise UsageError(
            f"no test image has a box of {absent[0]}, or is known to have none: add some with scoutview label"
        )
    model.network.to(device())
    inputs = NetworkInputs(archive, model.encoder.preprocessing, model.input_size)
    found = detect(model, inputs, cases, device())
    detections, truths = boxes_of(found), truths_of(cases)
    patients = archive.patients(cases.indices)
    content = {
        "task": "chest_detection",
        "label": ", ".join(model.classes),
        "split": "test",
        "classes": list(model.classes),
        **evaluate_detections(detections, truths, cases.known, patients, model.classes),
    }
    scores, targets = case_table(detections, truths, cases.known)
    told = CaseScores(model.classes, np.array(cases.indices), patients, scores, targets, detections, truths)

    def save(folder: Path) -> None:
        errors = case_errors(detections, truths, cases.known)
        write_text(folder / DETECTIONS, json.dumps(_detections(archive, model, cases, found), allow_nan=False) + "\n")
        worst = np.argsort(-errors, kind="stable")[:CASE_PICTURES].tolist()
        pictures = [_case(archive, model, cases, found, place, float(errors[place])) for place in worst]
        write_case_page(folder / CASE_PAGE, ", ".join(model.classes), pictures, len(errors))

    return Evaluation(content, {content["label"]: told}, save)


def _detections(
    archive: Archive, model: Detector, cases: DetectionCases, found: Sequence[Detections]
) -> dict[str, Any]:
    """Boxes as left, top, right, bottom in px of the stored image; of each image the classes that are known."""
    images = []
    for place, index in enumerate(cases.indices):
        row, one = archive.rows[index], found[place]
        truths = zip(cases.numbers[place].tolist(), cases.boxes[place].tolist(), strict=True)
        boxes = zip(one.classes.tolist(), one.scores.double().tolist(), one.boxes.tolist(), strict=True)
        images.append(
            {
                "image": row.image,
                "patient": row.patient,
                "rows": row.rows,
                "columns": row.columns,
                "known": [name for name, known in zip(model.classes, cases.known[place], strict=True) if known],
                "truths": [{"class": model.classes[number], "box": box} for number, box in truths],
                "detections": [
                    {"class": model.classes[number], "score": score, "box": box} for number, score, box in boxes
                ],
            }
        )
    return {"classes": list(model.classes), "split": "test", "images": images}


def _case(
    archive: Archive, model: Detector, cases: DetectionCases, found: Sequence[Detections], place: int, error: float
) -> Case:
    """The picture of an image with its true boxes and the best found ones."""
    index, one = cases.indices[place], found[place]
    row = archive.rows[index]
    picture, _ = read_unit_image(archive, index, model.encoder.preprocessing)
    boxes = [
        CaseBox(tuple(box), model.classes[number], None)
        for number, box in zip(cases.numbers[place].tolist(), cases.boxes[place].tolist(), strict=True)
    ]
    boxes += [
        CaseBox(tuple(box), model.classes[number], score)
        for number, score, box in zip(
            one.classes[:DRAWN].tolist(), one.scores[:DRAWN].tolist(), one.boxes[:DRAWN].tolist(), strict=True
        )
    ]
    unknown = [name for name, known in zip(model.classes, cases.known[place], strict=True) if not known]
    note = f"not known: {series(unknown)}" if unknown else ""
    return Case(row.image, thumbnail(picture), row.rows, row.columns, error, boxes, note=note)
