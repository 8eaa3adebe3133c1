"""ChestX-ray14 (Wang et al. 2017, NIH Clinical Center): text-mined findings, 984 boxes, official patient-wise lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Box, Entry, Split
from scoutview.ingest.layouts.tables import TableRow, first_of, number_of, read_lines, read_table, required

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
NO_FINDING = "No Finding"
SPELLED = {"Infiltrate": "Infiltration"}
"""The list of boxes spells one finding otherwise than the table of labels."""
SIZE = (1024, 1024)


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    path = first_of(folder, "Data_Entry_2017*.csv")
    return f"it holds {path.name}" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels: each of the 14 findings, "1" when listed, else "0" (the labeller went through all of them).

    Boxes: x, y, width, height in px of the 1024 x 1024 images; an image without boxes is not known to have none.
    Splits: train_val_list.txt and test_list.txt where they are there.
    """
    splits = _splits(folder)
    for row in read_table(required(folder, "Data_Entry_2017*.csv"), ("Image Index", "Finding Labels", "Patient ID")):
        listed = set(row["Finding Labels"].split("|"))
        unknown = sorted(listed - {*FINDINGS, NO_FINDING})
        if unknown:
            raise UsageError(f"{row.where}: {unknown[0]!r} is none of the 14 findings: restore the original file")
        yield Entry(
            row.where,
            (row["Image Index"],),
            patient=row["Patient ID"],
            split=splits.get(row["Image Index"], ""),
            labels={name: str(int(name in listed)) for name in FINDINGS},
        )
    boxes = first_of(folder, "BBox_List_2017*.csv")
    for row in read_table(boxes, ("Image Index", "Finding Label")) if boxes else ():
        yield Entry(row.where, (row["Image Index"],), boxes=(_box(row),), size=SIZE)


def _splits(folder: Path) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    files: tuple[tuple[str, Split], ...] = (("train_val_list*.txt", "train_validation"), ("test_list*.txt", "test"))
    for pattern, split in files:
        path = first_of(folder, pattern)
        if path:
            splits.update((name, split) for name in read_lines(path) if name)
    return splits


def _box(row: TableRow) -> Box:
    """The header is `Image Index,Finding Label,Bbox [x,y,w,h],,,`: the bracket holds four cells."""
    x, y, width, height = (number_of(cell, row.where, "Bbox") for cell in row.rest[2:6])
    name = row["Finding Label"]
    return Box(SPELLED.get(name, name), x, y, width, height)
