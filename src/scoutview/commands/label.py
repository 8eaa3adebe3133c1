"""`scoutview label`: labels and boxes for images that a store already holds."""

from __future__ import annotations

from dataclasses import dataclass
from json import dumps
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest import Pseudonyms
from scoutview.ingest.coco import boxes_of
from scoutview.ingest.joining import annotations_of
from scoutview.ingest.labels import read_label_csv
from scoutview.store import Store, add_annotations


@dataclass(frozen=True)
class LabelSummary:
    """What a label file said. labels and boxes: statements; targets: images and series that they are about."""

    labels: int
    boxes: int
    targets: int
    notes: tuple[str, ...]


def label(
    store: Path, file: Path, *, columns: list[str] | None = None, reader: str = "", json: bool = False
) -> LabelSummary:
    """Add labels (CSV) or boxes (COCO JSON) to a store, or replace earlier ones.

    A label replaces the earlier one of the same image, name and reader; boxes of an image are replaced together
    per name and reader. Patients stay as they were at ingest.

    Args:
        store: Folder of the store.
        file: CSV file with a column file or id and a column per label, or COCO JSON file with boxes.
        columns: Columns of the CSV file to take as labels, instead of all that look like labels.
        reader: Name or number of who read the images, where the file does not say so.
        json: End with one line of JSON for programs.

    Returns:
        Counts of what was added.

    Raises:
        UsageError: Wrong store, file or column, or a file that contradicts itself or names no image.
        RunError: The store cannot be written.
    """
    opened = Store.open(store)
    pseudonyms = Pseudonyms.from_environment()
    if pseudonyms.salt_id() != opened.salt_id:
        raise UsageError(
            f"{store} was written under another pseudonym secret ({opened.salt_id}, now {pseudonyms.salt_id()}): set "
            "SCOUTVIEW_KEY to the secret it was made with"
        )
    rows = opened.rows()
    if file.suffix.lower() == ".json":
        if columns is not None:
            raise UsageError(f"columns were given with {file}, which is JSON: boxes have categories, not columns")
        annotations, notes = boxes_of(file, rows, pseudonyms, reader)
    else:
        table = read_label_csv(file, columns)
        annotations, joined = annotations_of(table, rows, pseudonyms, reader)
        notes = [*table.notes, *joined]
    add_annotations(opened, annotations)
    summary = LabelSummary(
        labels=sum(item.kind == "label" for item in annotations),
        boxes=sum(item.kind == "box" and item.x is not None for item in annotations),
        targets=len({item.target for item in annotations}),
        notes=tuple(notes),
    )
    for note in notes:
        print(f"note: {note}")
    print(f"{summary.labels} labels and {summary.boxes} boxes for {summary.targets} images or series of {store}")
    if json:
        print(dumps({"labels": summary.labels, "boxes": summary.boxes, "targets": summary.targets}), flush=True)
    return summary
