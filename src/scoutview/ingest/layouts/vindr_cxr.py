"""VinDr-CXR (Nguyen et al. 2022): findings and boxes by three of 17 radiologists per training image, consensus in test.

The files of PhysioNet (annotations/*.csv), or train.csv of the Kaggle competition.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Box, Entry, Split
from scoutview.ingest.layouts.tables import TableRow, header_of, number_of, read_table

CORNERS = ("x_min", "y_min", "x_max", "y_max")
NO_FINDING = "No finding"
SPELLED = {"Other diseases": "Other disease", "Other diesease": "Other disease"}
"""One column is named differently in the training and the test part."""
PARTS: tuple[tuple[str, Split], ...] = (("train", "train_validation"), ("test", "test"))


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    for place in (folder, folder / "annotations"):
        if (place / "annotations_train.csv").exists() and (place / "image_labels_train.csv").exists():
            return "it holds annotations_train.csv and image_labels_train.csv"
    return "train.csv has the columns class_name and rad_id" if _is_kaggle(folder) else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels (1, 0) and boxes (corners become x, y, width, height) by reader; of the test part without a reader.

    A reader who did not give an image a finding that boxes are drawn for searched it and found none. Rows of
    "No finding" have no corners.
    """
    place = folder / "annotations" if (folder / "annotations" / "annotations_train.csv").exists() else folder
    if _is_kaggle(place):
        yield from _kaggle(place / "train.csv")
        return
    files = [(place / f"annotations_{part}.csv", place / f"image_labels_{part}.csv", split) for part, split in PARTS]
    files = [(boxes, labels, split) for boxes, labels, split in files if boxes.exists() and labels.exists()]
    if not files:
        raise UsageError(f"{folder} has no annotations_train.csv and image_labels_train.csv: give the folder above")
    drawn = {
        _name(row["class_name"]) for boxes, _, _ in files for row in read_table(boxes, ("class_name",)) if _drawn(row)
    }
    for boxes, labels, split in files:
        for row in read_table(labels, ("image_id",)):
            names = [name for name in row.cells if name not in ("image_id", "rad_id")]
            values = {_name(name): _value(row, name) for name in names}
            absent = tuple(sorted(name for name, value in values.items() if value == "0" and name in drawn))
            yield Entry(
                row.where, (row["image_id"],), split=split, reader=row.get("rad_id"), labels=values, no_boxes=absent
            )
        for row in read_table(boxes, ("image_id", "class_name", *CORNERS)):
            if _drawn(row):
                yield Entry(row.where, (row["image_id"],), reader=row.get("rad_id"), boxes=(_box(row),))


def _kaggle(path: Path) -> Iterator[Entry]:
    """train.csv: a row per box, or one without corners for each reader who saw nothing."""
    reads: dict[tuple[str, str], list[TableRow]] = {}
    for row in read_table(path, ("image_id", "class_name", "rad_id", *CORNERS)):
        reads.setdefault((row["image_id"], row["rad_id"]), []).append(row)
    names = sorted({_name(row["class_name"]) for rows in reads.values() for row in rows})
    for (image, reader), rows in reads.items():
        seen = {_name(row["class_name"]) for row in rows}
        yield Entry(
            rows[0].where,
            (image,),
            reader=reader,
            labels={name: str(int(name in seen)) for name in names},
            boxes=tuple(_box(row) for row in rows if _drawn(row)),
            no_boxes=tuple(name for name in names if name not in seen and name != NO_FINDING),
        )


def _is_kaggle(folder: Path) -> bool:
    return {"image_id", "class_name", "rad_id", *CORNERS} <= set(header_of(folder / "train.csv"))


def _name(name: str) -> str:
    return SPELLED.get(name, name)


def _drawn(row: TableRow) -> bool:
    return row["class_name"] != NO_FINDING and bool(row.get("x_min"))


def _value(row: TableRow, name: str) -> str:
    value = number_of(row[name], row.where, name)
    if value not in (0.0, 1.0):
        raise UsageError(f"{row.where}: {name} is {row[name]!r}, neither 0 nor 1: restore the original file")
    return str(int(value))


def _box(row: TableRow) -> Box:
    left, top, right, bottom = (number_of(row[name], row.where, name) for name in CORNERS)
    return Box(_name(row["class_name"]), left, top, right - left, bottom - top)
