"""RSNA intracranial haemorrhage (Flanders et al. 2020): six rows per CT slice, `ID_xxxxxxxxx_<subtype>,Label`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry
from scoutview.ingest.layouts.tables import first_of, header_of, read_table

SUBTYPES = ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
FILES = ("stage_2_train.csv", "stage_1_train.csv")


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    path = _file(folder)
    return f"{path.name} has the columns ID and Label" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels of a slice: `any haemorrhage` and the five subtypes. Some slices stand in the file twice, alike.

    Patients and studies come from the DICOM headers; the published parts share patients, so there is no split.
    """
    path = _file(folder)
    if path is None:
        raise UsageError(f"{folder} has no stage_2_train.csv with ID and Label: give the folder that holds it")
    image, where, labels = "", "", dict[str, str]()
    for row in read_table(path, ("ID", "Label")):
        name, _, subtype = row["ID"].rpartition("_")
        if subtype not in SUBTYPES or row["Label"] not in ("0", "1"):
            raise UsageError(
                f"{row.where}: {row['ID']!r} is not image and subtype, or {row['Label']!r} not 0 or 1: "
                "restore the original file"
            )
        label = "any haemorrhage" if subtype == "any" else subtype
        # The rows of a slice follow each other; a slice that comes a second time makes an entry of its own.
        if name != image or label in labels:
            if labels:
                yield Entry(where, (image,), id=image, labels=labels)
            image, where, labels = name, row.where, {}
        labels[label] = row["Label"]
    if labels:
        yield Entry(where, (image,), id=image, labels=labels)


def _file(folder: Path) -> Path | None:
    """SIIM's pneumothorax set names a file of its own stage_2_train.csv: the columns tell."""
    for pattern in FILES:
        path = first_of(folder, pattern)
        if path and header_of(path) == ["ID", "Label"]:
            return path
    return None
