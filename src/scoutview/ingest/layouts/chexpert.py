"""CheXpert (Irvin et al. 2019, Stanford): 14 findings mined from reports; 1, 0, -1 (open), blank (unknown)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry, Split
from scoutview.ingest.layouts.tables import header_of, read_table
from scoutview.store import UNCERTAIN

FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
PARTS: dict[str, Split] = {"train": "train", "valid": "validation", "test": "test"}
FILES = ("train.csv", "valid.csv", "test.csv", "test_labels.csv")


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    for name in FILES:
        columns = header_of(folder / name)
        if "Path" in columns and "Enlarged Cardiomediastinum" in columns:
            return f"{name} has the columns Path and Enlarged Cardiomediastinum"
    return ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels of the 14 findings; -1 stays open, blank unknown. Split: the part (train, valid, test) in the path.

    Paths begin with the name of the release (`CheXpert-v1.0-small/train/...`), which need not be the folder's.
    """
    found = [folder / name for name in FILES if "Path" in header_of(folder / name)]
    if not found:
        raise UsageError(f"{folder} has no {' or '.join(FILES)} with a column Path: give the folder that holds them")
    for path in found:
        for row in read_table(path, ("Path", *FINDINGS)):
            place = PurePosixPath(row["Path"])
            first = next((index for index, part in enumerate(place.parts) if part in PARTS), None)
            if first is None or len(place.parts) - first < 4:
                raise UsageError(
                    f"{row.where}: the path {row['Path']!r} is not train, valid or test, patient, study, image: "
                    "restore the original file"
                )
            values = {name: finding_value(row[name], row.where, name) for name in FINDINGS}
            labels = {name: value for name, value in values.items() if value}
            view = row.get("AP/PA") if row.get("Frontal/Lateral") == "Frontal" else row.get("Frontal/Lateral")
            yield Entry(
                row.where,
                (PurePosixPath(*place.parts[first:]).as_posix(),),
                patient=place.parts[first + 1],
                split=PARTS[place.parts[first]],
                labels={**labels, **({"view": view.upper()} if view else {})},
            )


def finding_value(text: str, where: str, name: str) -> str:
    """1 and 0 as they are, -1 as open, blank as "" (unknown); with or without ".0".

    Raises:
        UsageError: for any other text.
    """
    values = {"1": "1", "1.0": "1", "0": "0", "0.0": "0", "-1": UNCERTAIN, "-1.0": UNCERTAIN, "": ""}
    if text not in values:
        raise UsageError(f"{where}: {name} {text!r} is none of 1, 0, -1 and blank: restore the original file")
    return values[text]
