"""`scoutview label`: labels, boxes and masks for images that a store already holds."""

from __future__ import annotations

from dataclasses import dataclass
from json import dumps
from pathlib import Path

from scoutview.commands.terminal import printable
from scoutview.errors import UsageError
from scoutview.ingest import Pseudonyms
from scoutview.ingest.label_files import open_labels
from scoutview.store import Store, add_annotations


@dataclass(frozen=True)
class LabelSummary:
    """What a label file said. labels, boxes and masks: statements; targets: images, series, studies they are about."""

    labels: int
    boxes: int
    masks: int
    targets: int
    notes: tuple[str, ...]


def label(
    store: Path,
    file: Path,
    *,
    layout: str | None = None,
    columns: list[str] | None = None,
    reader: str = "",
    json: bool = False,
) -> LabelSummary:
    """Add labels, boxes, masks or splits to a store, or replace earlier ones.

    A label replaces the earlier one of the same image, name and reader; boxes and masks of an image are replaced
    together per name and reader. Patients stay as they were at ingest.

    Args:
        store: Folder of the store.
        file: CSV file with a column file or id and a column per label, CSV file with the columns file and mask,
            COCO JSON file with boxes, DICOM Segmentation, or the folder of a public data set.
        layout: Name of the public data set whose folder was given, instead of what its files look like.
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
    source = open_labels(file, layout, columns)
    annotations, joined = source.annotations(opened.rows(), pseudonyms, reader)
    notes = [*source.notes, *joined]
    add_annotations(opened, annotations)
    summary = LabelSummary(
        labels=sum(item.kind == "label" for item in annotations),
        boxes=sum(item.kind == "box" and item.x is not None for item in annotations),
        masks=sum(item.kind == "mask" and item.x is not None for item in annotations),
        targets=len({item.target for item in annotations}),
        notes=tuple(notes),
    )
    for note in notes:
        print(printable(f"note: {note}"))
    counts = {"labels": summary.labels, "boxes": summary.boxes, "masks": summary.masks, "targets": summary.targets}
    print(
        f"{summary.labels} labels, {summary.boxes} boxes and {summary.masks} masks for {summary.targets} images, "
        f"series or studies of {store}"
    )
    if json:
        print(dumps(counts), flush=True)
    return summary
