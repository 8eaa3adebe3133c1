"""predictions.csv, predictions.json and refused.csv from the log, line by line: they may be larger than memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scoutview.export.prediction_log import PredictionLog
from scoutview.files import inert, replacing
from scoutview.ingest import fix_of

CSV, JSON, REFUSED = "predictions.csv", "predictions.json", "refused.csv"
_FIXES = {
    "damaged_record": "scoutview fsck names what is damaged in the store; ingest it again",
    "no_brain": "nothing to do if it shows no head; the model is shown the brain's box",
    "other_modality": "nothing to do: the model was trained for another modality",
}
_KEYS = ("source", "image", "modality", "patient", "study", "series")


def write_predictions(
    log: PredictionLog, names: Sequence[str], about: Mapping[str, Any], classes: Sequence[str], folder: Path
) -> dict[str, int]:
    """Write the files of what the log says of `names`; returns counts: files, images, boxes, and refusals by reason.

    about: what predictions.json begins with.
    """
    counts = {"files": 0, "images": 0, "boxes": 0}
    with (
        replacing(folder / CSV) as table,
        replacing(folder / JSON) as nested,
        replacing(folder / REFUSED) as refused,
        table.open("w", newline="", encoding="utf-8") as rows,
        nested.open("w", encoding="utf-8") as text,
        refused.open("w", newline="", encoding="utf-8") as refusals,
    ):
        predicted, left = csv.writer(rows, lineterminator="\n"), csv.writer(refusals, lineterminator="\n")
        predicted.writerow([*_KEYS, "class", "probability"])
        left.writerow(["source", "image", "reason", "detail", "fix"])
        text.write(json.dumps(dict(about), allow_nan=False)[:-1] + ', "images": [')
        separator = "\n"
        for entry in log.entries(names):
            if entry["reason"]:
                reason = entry["reason"]
                left.writerow(
                    inert(cell)
                    for cell in [
                        entry["source"],
                        entry["image"],
                        reason,
                        entry["detail"],
                        _FIXES.get(reason) or fix_of(reason),
                    ]
                )
                counts[reason] = counts.get(reason, 0) + 1
                continue
            counts["files"] += 1
            for image in _images(entry):
                counts["images"] += 1
                counts["boxes"] += len(image["boxes"])
                for name, probability in zip(classes, image["probabilities"], strict=True):
                    predicted.writerow(inert(cell) for cell in [*(image[key] for key in _KEYS), name, probability])
                named = dict(zip(classes, image["probabilities"], strict=True))
                text.write(separator + json.dumps({**image, "probabilities": named}, allow_nan=False))
                separator = ",\n"
        text.write("\n]}\n")
    return counts


def _images(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for image in entry["images"]:
        yield {"source": entry["source"], **image}
