"""Which image or series a row of a label file means. Its identifiers are keyed first: none enters the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from scoutview.errors import UsageError
from scoutview.ingest.files import SourceFile
from scoutview.ingest.labels import LabelRow, LabelTable
from scoutview.ingest.pseudonyms import Pseudonyms, stem_of
from scoutview.store import Annotation, ImageRow

SHOWN = 3


def normal(path: str) -> PurePosixPath:
    """A path as label files write it: with either slash, perhaps with a leading "./"."""
    return PurePosixPath(path.replace("\\", "/"))


@dataclass
class Targets:
    """The images of a store by everything that may name them."""

    pseudonyms: Pseudonyms
    by_path: dict[str, list[ImageRow]] = field(default_factory=dict)
    by_name: dict[str, list[ImageRow]] = field(default_factory=dict)
    by_id: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[ImageRow], pseudonyms: Pseudonyms) -> Targets:
        """Index the rows of a catalog."""
        targets = cls(pseudonyms)
        for row in rows:
            targets.by_path.setdefault(row.path_key, []).append(row)
            targets.by_name.setdefault(row.name_key, []).append(row)
            targets.by_id[row.image] = row.image
            if row.instance_key:
                targets.by_id[row.instance_key] = row.image
            if row.series:
                targets.by_id.setdefault(row.series, row.series)
        return targets

    def by_file(self, file: str) -> str | None:
        """Image id or series key for a relative path, file name or stem, with "#index" for a part of a file.

        A path that begins above the source (`images/a.png` for the source `images`) is shortened from the left.

        Raises:
            ValueError: when several files have that name.
        """
        path = normal(file)
        tails = (PurePosixPath(*path.parts[first:]).as_posix() for first in range(len(path.parts)))
        found = next(filter(None, (self.at_path(tail) for tail in tails)), []) or self.named(path.name)
        if len({row.file_key for row in found}) > 1:
            raise ValueError(file)
        if len(found) > 1:
            return found[0].series
        return found[0].image if found else None

    def by_identifier(self, identifier: str) -> str | None:
        """Image id or series key for an image id, SOP Instance UID or Series Instance UID."""
        candidates = (
            identifier.lower(),
            self.pseudonyms.key("instance", identifier),
            self.pseudonyms.key("series", identifier),
        )
        return next((self.by_id[key] for key in candidates if key in self.by_id), None)

    def at_path(self, path: str) -> list[ImageRow]:
        """The images of the file at a path below its source, or of its part "#index"."""
        return self._matching(self.by_path, "path", path)

    def named(self, name: str) -> list[ImageRow]:
        """The images of all files of that name or stem, or of their part "#index"."""
        base, mark, index = name.rpartition("#")
        return self._matching(self.by_name, "name", f"{stem_of(base)}{mark}{index}" if mark else stem_of(name))

    def _matching(self, index: Mapping[str, list[ImageRow]], kind: str, value: str) -> list[ImageRow]:
        key = self.pseudonyms.key("path" if kind == "path" else "name", value)
        if key in index:
            return index[key]
        base, mark, number = value.rpartition("#")  # a slice of a volume or a page, which share the keys of their file
        if not mark:
            return []
        parts = [row for row in index.get(self.pseudonyms.key("path" if kind == "path" else "name", base), [])
                 if row.source_format not in ("dicom", "npz")]  # fmt: skip
        volume, within, number = number.rpartition("/")  # "volume/slice" of a time series
        if within:
            stack = self.pseudonyms.key("stack", f"{base}#{volume}")
            parts = [row for row in parts if row.stack == stack]
        found = [row for row in parts if number.isdecimal() and row.slice_index == int(number)]
        # Without its volume, a slice of a time series is none in particular.
        return found if len({row.file_key for row in found}) == len(found) else []


def target_of(row: LabelRow, targets: Targets, table: LabelTable) -> str | None:
    """What a row of a label file is about: its id when it has one that is known, else its file.

    Raises:
        UsageError: when the file name is that of several files.
    """
    target = targets.by_identifier(row.id) if row.id else None
    if target is None and row.file:
        try:
            target = targets.by_file(row.file)
        except ValueError as error:
            raise UsageError(
                f"{table.path} row {row.number}: {row.file!r} is the name of several files: "
                "give the path below the source"
            ) from error
    return target


def annotations_of(
    table: LabelTable, rows: Sequence[ImageRow], pseudonyms: Pseudonyms, reader: str = ""
) -> tuple[list[Annotation], list[str]]:
    """(annotations, notes) of a label file for the images of a store. Blank cells say nothing.

    Raises:
        UsageError: no row names an image, two rows contradict each other, or a name is ambiguous.
    """
    targets = Targets.of(rows, pseudonyms)
    said: dict[tuple[str, str, str, str], tuple[str, int]] = {}
    annotations: list[Annotation] = []
    unmatched: list[LabelRow] = []
    seen: dict[tuple[str, str], int] = {}
    repeated = 0
    for row in table.rows:
        target = target_of(row, targets, table)
        if target is None:
            unmatched.append(row)
            continue
        by = row.reader or reader
        repeated += (target, by) in seen
        seen.setdefault((target, by), row.number)
        statements = [("label", name, value) for name, value in row.values.items()]
        if row.split:
            statements.append(("split", "split", row.split))
        for kind, name, value in statements:
            key = (target, kind, name, by if kind == "label" else "")
            if key in said:
                other, number = said[key]
                if other != value:
                    raise UsageError(
                        f"{table.path} rows {number} and {row.number} are about the same image and give {name} as "
                        f"{other!r} and {value!r}: keep one, or name two readers"
                    )
                continue
            said[key] = (value, row.number)
            annotations.append(
                Annotation(
                    target,
                    "label" if kind == "label" else "split",
                    name,
                    value,
                    reader=key[3],
                    source=f"csv:{table.content}",
                )
            )
    if len(unmatched) == len(table.rows):
        raise UsageError(
            f"no row of {table.path} names an image of the store (first: {_shown(unmatched)}): file is a path "
            "below the source or a file name, id an image id, SOP Instance UID or Series Instance UID"
        )
    notes = []
    if unmatched:
        notes.append(f"{len(unmatched)} label rows name no image of the store: {_shown(unmatched)}")
    if repeated:
        notes.append(f"{repeated} label rows repeat an earlier one")
    return annotations, [*notes, *divided_patients(annotations, rows)]


def _shown(rows: Sequence[LabelRow]) -> str:
    names = ", ".join(f"row {row.number} {row.file or row.id!r}" for row in rows[:SHOWN])
    return f"{names}, ..." if len(rows) > SHOWN else names


def divided_patients(annotations: Sequence[Annotation], rows: Sequence[ImageRow]) -> list[str]:
    """A warning when a split column puts one patient into several splits."""
    splits = {item.target: item.value for item in annotations if item.kind == "split"}
    if not splits:
        return []
    by_patient: dict[str, set[str]] = {}
    for row in rows:
        by_patient.setdefault(row.patient, set()).add(splits.get(row.image) or splits.get(row.series) or row.split)
    divided = sum(len(values) > 1 for values in by_patient.values())
    return [f"{divided} patients lie in more than one split: results on them are too good"] if divided else []


def patients_of(table: LabelTable, files: Sequence[SourceFile], pseudonyms: Pseudonyms) -> dict[str, str]:
    """Patient keys from a label file, before any file is read: key of a file, path, instance, ... -> patient key.

    Raises:
        UsageError: when a file name is that of several files, or two rows give one image two patients.
    """
    paths = {file.relative.as_posix(): file for file in files}
    names: dict[str, list[SourceFile]] = {}
    for file in files:
        for name in {file.relative.name, stem_of(file.relative.name)}:
            names.setdefault(name, []).append(file)
    patients: dict[str, str] = {}
    for row in table.rows:
        if not row.patient:
            continue
        patient = pseudonyms.key("patient", row.patient)
        for key in _keys_named(row, paths, names, table, pseudonyms):
            if patients.setdefault(key, patient) != patient:
                raise UsageError(
                    f"{table.path} row {row.number} gives another patient for an image than an earlier row: keep one"
                )
    return patients


def _keys_named(
    row: LabelRow,
    paths: Mapping[str, SourceFile],
    names: Mapping[str, list[SourceFile]],
    table: LabelTable,
    pseudonyms: Pseudonyms,
) -> list[str]:
    if row.id:
        return [row.id.lower(), pseudonyms.key("instance", row.id), pseudonyms.key("series", row.id)]
    path = normal(row.file)
    whole, mark, index = path.as_posix(), "", ""
    if whole not in paths and "#" in whole:
        whole, mark, index = whole.rpartition("#")
    parts = PurePosixPath(whole).parts
    tails = [PurePosixPath(*parts[first:]).as_posix() for first in range(len(parts))]
    found = next(([paths[tail]] for tail in tails if tail in paths), [])
    found = found or names.get(parts[-1], []) or names.get(stem_of(parts[-1]), [])
    if len(found) > 1:
        raise UsageError(
            f"{table.path} row {row.number}: {row.file!r} is the name of several files: give the path below the source"
        )
    if not found:
        return []
    if mark:
        return [pseudonyms.key("path", f"{found[0].relative.as_posix()}#{index}")]
    return [pseudonyms.key("file", found[0].name)]


def patient_for(row: ImageRow, patients: Mapping[str, str]) -> str | None:
    """The patient key that a label file gives for an image, or None."""
    keys = (row.path_key, row.file_key, row.instance_key, row.image, row.series)
    return next((patients[key] for key in keys if key in patients), None)
