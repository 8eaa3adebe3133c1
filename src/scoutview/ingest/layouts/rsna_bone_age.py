"""RSNA bone age (Halabi et al. 2019): films of hands, age of the bones in months."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry, Split
from scoutview.ingest.layouts.tables import first_of, number_of, read_table

FILES: tuple[tuple[str, str, Split], ...] = (
    ("boneage-training-dataset*.csv", "id", "train"),
    ("*[Vv]alidation*.csv", "Image ID", "validation"),
    ("boneage-test-dataset*.csv", "Case ID", "test"),
)
_SEXES = {"true": "male", "m": "male", "false": "female", "f": "female"}


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    path = first_of(folder, "boneage-training-dataset*.csv")
    return f"it holds {path.name}" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels bone_age (months) and sex; the test part has no ages. Files are named by number, in nested folders."""
    found = False
    for pattern, column, split in FILES:
        path = first_of(folder, pattern)
        if path is None:
            continue
        found = True
        for row in read_table(path, (column,)):
            age = row.get("boneage") or row.get("Bone Age (months)")
            if age:
                number_of(age, row.where, "bone age")
            sex = _SEXES.get((row.get("male") or row.get("Sex")).lower(), "")
            labels = {name: value for name, value in (("bone_age", age), ("sex", sex)) if value}
            yield Entry(row.where, (f"{row[column]}.png",), patient=row[column], split=split, labels=labels)
    if not found:
        raise UsageError(f"{folder} has no boneage-training-dataset.csv: give the folder that holds it")
