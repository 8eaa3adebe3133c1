"""Any label file, or the folder of a public data set -> what it says of the images of a store, and who is who."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.coco import boxes_of
from scoutview.ingest.files import SourceFile
from scoutview.ingest.joining import annotations_of, patients_of
from scoutview.ingest.labels import read_label_csv
from scoutview.ingest.layouts import LAYOUTS, Entry, find_layout
from scoutview.ingest.layouts.dicom_seg import is_segmentation, read_segmentation
from scoutview.ingest.layouts.joining import annotations_of_entries, patients_of_entries
from scoutview.ingest.layouts.mask_table import is_mask_table, read_mask_table
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.store import Annotation, ImageRow

Said = tuple[list[Annotation], list[str]]


@dataclass(frozen=True)
class LabelSource:
    """A label source that was recognised.

    annotations: (rows of a store, pseudonyms, reader where the source names none) -> (annotations, notes).
    patients: (files, pseudonyms) -> key of a file or instance -> patient key. notes: how it was read.
    """

    annotations: Callable[[Sequence[ImageRow], Pseudonyms, str], Said]
    patients: Callable[[Sequence[SourceFile], Pseudonyms], dict[str, str]]
    notes: tuple[str, ...] = ()


def open_labels(
    path: Path, layout: str | None = None, columns: list[str] | None = None, patient_column: str | None = None
) -> LabelSource:
    """A CSV of labels or of masks, a COCO file, a DICOM Segmentation, or the folder of a public data set.

    layout: name of the data set, instead of what the files in the folder look like. columns, patient_column: of a
    CSV of labels.

    Raises:
        UsageError: it is none of these, or an option does not go with it.
    """
    if layout is not None and not path.is_dir():
        raise UsageError(f"the layout {layout!r} was given with {path}, which is no folder: give the data set's folder")
    kind = _kind(path)
    if (columns or patient_column) and kind != "csv":
        raise UsageError(f"columns were given with {path}, which is no CSV file of labels: leave them out")
    if kind == "folder":
        name, why = find_layout(path, layout)
        read = partial(LAYOUTS[name].read, path)
        return _of_entries(read, path, f"layout:{name}", (f"read as {name}: {why}",))
    if kind == "masks":
        return _of_entries(partial(read_mask_table, path), path.parent, f"masks:{_digest(path)}")
    if kind == "segmentation":
        return _of_entries(partial(read_segmentation, path), path.parent, f"seg:{_digest(path)}")
    if kind == "coco":
        return LabelSource(partial(boxes_of, path), lambda files, pseudonyms: {})
    table = read_label_csv(path, columns, patient_column)
    return LabelSource(partial(annotations_of, table), partial(patients_of, table), table.notes)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if path.suffix.lower() == ".json":
        return "coco"
    if path.suffix.lower() in (".nii", ".gz") and not is_mask_table(path):
        raise UsageError(
            f"{path} does not say which image it is about: give a CSV file with the columns file and mask that names "
            "both"
        )
    if is_mask_table(path):
        return "masks"
    return "segmentation" if path.is_file() and is_segmentation(path) else "csv"


def _of_entries(
    read: Callable[[], Iterator[Entry]], folder: Path, source: str, notes: tuple[str, ...] = ()
) -> LabelSource:
    def annotations(rows: Sequence[ImageRow], pseudonyms: Pseudonyms, reader: str = "") -> Said:
        entries = (entry if entry.reader or not reader else replace(entry, reader=reader) for entry in read())
        return annotations_of_entries(entries, folder, rows, pseudonyms, source)

    def patients(files: Sequence[SourceFile], pseudonyms: Pseudonyms) -> dict[str, str]:
        return patients_of_entries(read(), folder, files, pseudonyms)

    return LabelSource(annotations, patients, notes)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
