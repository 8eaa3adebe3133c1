"""A CSV of labels: one row per image, volume or series; one column says which, the others what is known of it."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from scoutview.errors import UsageError

JOIN_COLUMNS = ("file", "id")
PATIENT_COLUMNS = ("patient", "patient_id", "group")
_RESERVED = (*JOIN_COLUMNS, *PATIENT_COLUMNS, "split", "reader", "study", "series")
_SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
           "val": "validation", "test": "test"}  # fmt: skip
_IDENTIFYING = ("name", "birth", "mrn", "accession", "address", "phone", "comment", "report")
MOST_TEXTS = 20
"""A text column with more distinct values is no label, and may hold identifiers."""


@dataclass(frozen=True)
class LabelRow:
    """number: its line in the file. file, id: which image. values: label name -> value, blank ones left out."""

    number: int
    file: str
    id: str
    patient: str
    split: str
    reader: str
    values: dict[str, str]


@dataclass(frozen=True)
class LabelTable:
    """A label file, read. content: 16 hex digits that name it without its own name. notes: what was left out."""

    path: Path
    content: str
    rows: tuple[LabelRow, ...]
    notes: tuple[str, ...]


def read_label_csv(path: Path, columns: list[str] | None = None, patient_column: str | None = None) -> LabelTable:
    """Read and check a label file; comma, semicolon or tab separated, UTF-8.

    columns: the label columns to take; without it every column but the reserved ones, those whose name looks
    identifying and texts with more than 20 distinct values. patient_column: the column that groups images
    into patients; without it patient, patient_id or group.

    Raises:
        UsageError: no such file or column, no join column, not UTF-8 text, no rows, an unknown split.
    """
    data, header, lines = _read(path)
    names = [name.strip() for name in header]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{path} has two columns {twice!r}: rename one")
    if not any(name in names for name in JOIN_COLUMNS):
        raise UsageError(
            f"{path} has no column file or id (it has {', '.join(names)}): add one that names the image of each row"
        )
    for name in [*(columns or []), *([patient_column] if patient_column else [])]:
        if name not in names:
            raise UsageError(f"{path} has no column {name!r}: it has {', '.join(names)}")
    table = [(number, dict(zip(names, (cell.strip() for cell in cells), strict=False))) for number, cells in lines]
    patient = patient_column or next((name for name in PATIENT_COLUMNS if name in names), None)
    taken, notes = _label_columns(names, [cells for _, cells in table], columns, patient)
    rows = []
    for number, cells in table:
        said = cells.get("split", "").lower() if "split" in names and "split" not in taken else ""
        if said and said not in _SPLITS:
            raise UsageError(f"{path} row {number}: split {said!r} is none of train, validation, test: correct it")
        rows.append(
            LabelRow(
                number=number,
                file=cells.get("file", ""),
                id=cells.get("id", ""),
                patient=cells.get(patient, "") if patient else "",
                split=_SPLITS.get(said, ""),
                reader=cells.get("reader", ""),
                values={name: cells[name] for name in taken if cells.get(name)},
            )
        )
    return LabelTable(path, hashlib.sha256(data).hexdigest()[:16], tuple(rows), notes)


def _read(path: Path) -> tuple[bytes, list[str], list[tuple[int, list[str]]]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the label file {path} cannot be read ({error.strerror}): give a CSV file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from error
    if not text.strip():
        raise UsageError(f"{path} is empty: give a CSV file with a header and rows")
    first = text.splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        header = next(reader)
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UsageError(f"{path} is not a well-formed CSV file ({error}): export it again") from error
    for number, cells in lines:
        if len(cells) != len(header):
            raise UsageError(
                f"{path} row {number} has {len(cells)} cells where the header has {len(header)}: quote or correct it"
            )
    if not lines:
        raise UsageError(f"{path} has a header and no rows: add one row per image")
    return data, header, lines


def _label_columns(
    names: list[str], cells: list[dict[str, str]], columns: list[str] | None, patient: str | None
) -> tuple[list[str], tuple[str, ...]]:
    """(names of label columns, notes on those left out)."""
    if columns is not None:
        return [name for name in names if name in columns and name not in JOIN_COLUMNS], ()
    taken, identifying, texts = [], [], []
    for name in names:
        if name.lower() in _RESERVED or name == patient or not name:
            continue
        values = {row.get(name, "") for row in cells} - {""}
        if any(word in name.lower() for word in _IDENTIFYING):
            identifying.append(name)
        elif len(values) > MOST_TEXTS and not all(_is_number(value) for value in values):
            texts.append(name)
        else:
            taken.append(name)
    notes = []
    if identifying:
        notes.append(f"left out {', '.join(identifying)}: the name looks identifying (name it to take it)")
    if texts:
        notes.append(f"left out {', '.join(texts)}: more than {MOST_TEXTS} different texts (name it to take it)")
    return taken, tuple(notes)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
