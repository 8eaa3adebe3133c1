"""MIMIC-CXR and MIMIC-CXR-JPG (Johnson et al. 2019, PhysioNet): findings per study, mined from its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.chexpert import finding_value
from scoutview.ingest.layouts.entries import Entry, Split
from scoutview.ingest.layouts.tables import first_of, header_of, read_table, required

SPLITS: dict[str, Split] = {"train": "train", "validate": "validation", "test": "test"}
READERS = ("chexpert", "negbio")
"""Two labellers read the same reports; the first alone speaks by default of training code, both are kept."""


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    path = first_of(folder, "mimic-cxr-2*-split.csv*")
    return f"it holds {path.name}" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels of a study for each of its images, by the labellers `chexpert` and `negbio`: 1, 0, -1 (left open), blank.

    mimic-cxr-2.0.0-split.csv.gz gives image, study, patient and the official split; -metadata the view.
    """
    studies = {name: _findings(folder, name) for name in READERS}
    if not any(studies.values()):
        raise UsageError(f"{folder} has no mimic-cxr-2*-chexpert.csv or -negbio.csv: add at least one of them")
    views = _views(folder)
    needed = ("dicom_id", "study_id", "subject_id", "split")
    for row in read_table(required(folder, "mimic-cxr-2*-split.csv*"), needed):
        image, split = row["dicom_id"], row["split"]
        if split not in SPLITS:
            raise UsageError(f"{row.where}: split {split!r} is none of train, validate, test: restore the original")
        view = views.get(image, "")
        yield Entry(
            row.where, (image,), patient=row["subject_id"], split=SPLITS[split], labels={"view": view} if view else {}
        )
        for reader, findings in studies.items():
            labels = findings.get(row["study_id"])
            if labels:
                yield Entry(row.where, (image,), reader=reader, labels=labels)


def _findings(folder: Path, labeller: str) -> dict[str, dict[str, str]]:
    """Study -> finding -> value; a blank cell says that the report does not mention it, which is not 0."""
    path = first_of(folder, f"mimic-cxr-2*-{labeller}.csv*")
    if path is None:
        return {}
    names = [name for name in header_of(path) if name not in ("subject_id", "study_id")]
    studies: dict[str, dict[str, str]] = {}
    for row in read_table(path, ("study_id",)):
        values = {name: finding_value(row.get(name), row.where, name) for name in names}
        studies[row["study_id"]] = {name: value for name, value in values.items() if value}
    return studies


def _views(folder: Path) -> dict[str, str]:
    path = first_of(folder, "mimic-cxr-2*-metadata.csv*")
    return {row["dicom_id"]: row["ViewPosition"] for row in _metadata(path)} if path else {}


def _metadata(path: Path) -> Iterator[dict[str, str]]:
    for row in read_table(path, ("dicom_id", "ViewPosition")):
        yield {name: row[name] for name in ("dicom_id", "ViewPosition")}
