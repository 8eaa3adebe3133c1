"""Entries of label files -> annotations of the images of a store, patients of files. No identifier enters the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from scoutview.errors import UsageError
from scoutview.ingest.files import SourceFile
from scoutview.ingest.joining import SHOWN, Targets, divided_patients, normal
from scoutview.ingest.layouts.entries import Entry, Mask
from scoutview.ingest.pseudonyms import Pseudonyms, stem_of
from scoutview.store import Annotation, ImageRow, mask_annotation

EXACT = 10**6
TOLERANCE = 0.5
"""px by which a box may leave its image: coordinates are rounded by some tools."""


def annotations_of_entries(
    entries: Iterable[Entry], folder: Path, rows: Sequence[ImageRow], pseudonyms: Pseudonyms, source: str
) -> tuple[list[Annotation], list[str]]:
    """(annotations, notes) of label files for the images of a store.

    folder: where the label files lie; paths of entries are below it. source: what the annotations name as their
    source. When entries of two files can only mean the same image, the one whose path fits best does; when
    several fit alike, none does, and a note says so.

    Raises:
        UsageError: no entry names an image, or two contradict each other.
    """
    join = _Join(Targets.of(rows, pseudonyms), folder.resolve(), {row.image: row for row in rows})
    for entry in entries:
        join.take(entry, source)
    if join.entries == 0:
        raise UsageError(f"{folder} holds no labels: give the folder of the data set as it was published")
    if not join.found:
        shown = ", ".join(join.unknown[:SHOWN])
        raise UsageError(
            f"none of the {join.entries} entries of the label files in {folder} names an image of the store (first: "
            f"{shown}): ingest the images of the data set first, from its own folder"
        )
    annotations = join.annotations()
    return annotations, [*join.notes(), *divided_patients(annotations, rows)]


@dataclass
class _Join:
    """The state of a join: what is said of each target, by how well the names fit.

    found: target -> (parts of the path that fit, the name) -> what is said.
    """

    targets: Targets
    folder: Path
    rows: dict[str, ImageRow]
    found: dict[str, dict[tuple[int, str], list[tuple[Annotation, str]]]] = field(default_factory=dict)
    entries: int = 0
    unknown: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    ambiguous: int = 0
    repeated: int = 0
    keys: dict[str, str] = field(default_factory=dict)

    def take(self, entry: Entry, source: str) -> None:
        """Note what an entry says, if it names an image of the store."""
        self.entries += 1
        fit, row, whole = self._named(entry)
        if row is None:
            return
        target = row.image
        if whole or entry.about != "image":
            target = (row.study if entry.about == "study" else "") or row.series or row.image
        said = self._statements(entry, target, row, source)
        # What is about a whole study is named by any of its images: its names do not compete.
        name = entry.thing if target == row.image else ""
        self.found.setdefault(target, {}).setdefault((fit, name), []).extend((item, entry.where) for item in said)

    def _named(self, entry: Entry) -> tuple[int, ImageRow | None, bool]:
        """(how well it fits, an image, whether a whole series is meant)."""
        if entry.id:
            target = self.targets.by_identifier(entry.id)
            if target in self.rows:
                return EXACT, self.rows[target], False
            if target is not None:
                return EXACT, self._row_of_series(target), True
        several = False
        for file in entry.files:
            fit, found = self._at_path(file) if "/" in file else (1, self.targets.named(file))
            files = {row.file_key for row in found}
            several |= len(files) > 1
            if len(files) == 1:
                return fit, found[0], len(found) > 1
            if "#" in file and self.targets.named(file.rpartition("#")[0]):
                return 0, None, False  # a slice of one value, which ingest leaves out of a volume
        (self.several if several else self.unknown).append(entry.thing)
        return 0, None, False

    def _at_path(self, file: str) -> tuple[int, list[ImageRow]]:
        """The longest end of the whole path that is a path of the store: not less than two of its parts."""
        path = normal(str(self.folder / file))
        whole, mark, _ = path.as_posix().rpartition("#")
        exact = self.targets.pseudonyms.key("file", whole if mark else path.as_posix())
        for first in range(1, len(path.parts) - 1):
            found = self.targets.at_path(PurePosixPath(*path.parts[first:]).as_posix())
            if found:
                return EXACT if found[0].file_key == exact else len(path.parts) - first, found
        alone = self.targets.at_path(path.name)
        return (EXACT, alone) if alone and alone[0].file_key == exact else (0, [])

    def _row_of_series(self, series: str) -> ImageRow:
        if series not in self.keys:
            self.keys.update((row.series, row.image) for row in self.rows.values() if row.series)
        return self.rows[self.keys[series]]

    def _statements(self, entry: Entry, target: str, row: ImageRow, source: str) -> Iterator[Annotation]:
        by = entry.reader
        for name, value in entry.labels.items():
            if value:
                yield Annotation(target, "label", name, value, reader=by, source=source)
        if entry.split:
            split: str = entry.split
            if split == "train_validation":
                split = "validation" if row.split == "validation" else "train"
            yield Annotation(target, "split", "split", split, source=source)
        for kind, names in (("box", entry.no_boxes), ("mask", entry.no_masks)):
            for name in names:
                yield Annotation(target, "box" if kind == "box" else "mask", name, "0", reader=by, source=source)
        if (entry.boxes or entry.masks) and entry.size not in (None, (row.rows, row.columns)):
            self.misfits.append(entry.where)
            return
        for box in entry.boxes:
            inside = box.x >= -TOLERANCE and box.y >= -TOLERANCE and box.width > 0 and box.height > 0
            right, bottom = box.x + box.width, box.y + box.height
            if inside and right <= row.columns + TOLERANCE and bottom <= row.rows + TOLERANCE:
                yield Annotation(target, "box", box.name, "1", box.x, box.y, box.width, box.height, by, source)
            else:
                self.misfits.append(entry.where)
        for mask in entry.masks:
            if _fits(mask, row):
                yield _placed(mask_annotation(target, mask.name, mask.bitmap, by, source), mask)
            else:
                self.misfits.append(entry.where)

    def annotations(self) -> list[Annotation]:
        """What is said, each thing once.

        Raises:
            UsageError: when two entries of one reader contradict each other.
        """
        annotations: list[Annotation] = []
        for target in sorted(self.found):
            best = max(fit for fit, _ in self.found[target])
            said = [items for (fit, _), items in self.found[target].items() if fit == best]
            if len(said) > 1:
                self.ambiguous += len(said)
                continue
            annotations += self._once(said[0])
        return annotations

    def _once(self, said: Sequence[tuple[Annotation, str]]) -> list[Annotation]:
        known: dict[tuple[str, str, str], tuple[str, str]] = {}
        kept: dict[Annotation, None] = {}
        for item, where in said:
            if item in kept:
                self.repeated += 1
                continue
            kept[item] = None
            if item.kind in ("label", "split"):
                value, other = known.setdefault((item.kind, item.name, item.reader), (item.value, where))
                if value != item.value:
                    raise UsageError(
                        f"{other} and {where} are about the same image and give {item.name} as {value!r} and "
                        f"{item.value!r}: correct one"
                    )
        present = {(item.kind, item.name, item.reader) for item in kept if item.value == "1"}
        return [
            item
            for item in kept
            if item.kind not in ("box", "mask") or item.value == "1"
            or (item.kind, item.name, item.reader) not in present
        ]  # fmt: skip

    def notes(self) -> list[str]:
        """What was left out, and why."""
        notes = []
        if self.unknown:
            notes.append(f"{len(self.unknown)} entries name no image of the store: {_shown(self.unknown)}")
        if self.several:
            notes.append(f"{len(self.several)} entries have the name of several files: {_shown(self.several)}")
        if self.ambiguous:
            notes.append(
                f"{self.ambiguous} entries fit an image that others fit as well, and were left out: ingest the data "
                "set from its own folder, so that paths tell its images apart"
            )
        if self.misfits:
            notes.append(
                f"{len(self.misfits)} boxes or masks do not fit the size of their image, and were left out: "
                f"{_shown(self.misfits)}"
            )
        if self.repeated:
            notes.append(f"{self.repeated} statements repeat an earlier one")
        return notes


def _fits(mask: Mask, row: ImageRow) -> bool:
    rows, columns = mask.bitmap.shape
    if mask.whole:
        return (rows, columns) == (row.rows, row.columns)
    return min(mask.x, mask.y) >= 0 and mask.x + columns <= row.columns and mask.y + rows <= row.rows


def _placed(annotation: Annotation, mask: Mask) -> Annotation:
    if annotation.x is None or annotation.y is None:
        return annotation
    x, y = annotation.x + mask.x, annotation.y + mask.y
    return Annotation(
        annotation.target, "mask", annotation.name, annotation.value, x, y, annotation.width, annotation.height,
        annotation.reader, annotation.source, annotation.mask,
    )  # fmt: skip


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def patients_of_entries(
    entries: Iterable[Entry], folder: Path, files: Sequence[SourceFile], pseudonyms: Pseudonyms
) -> dict[str, str]:
    """Patient keys from label files, before any file is read: key of a file or instance -> patient key.

    A path names the file at that place below the folder, or one whose own path ends in it; a name the file of
    that name or stem.

    Raises:
        UsageError: when two entries give one file two patients.
    """
    folder = folder.resolve()
    places = {file.name: file for file in files}
    names: dict[str, list[SourceFile]] = {}
    for file in files:
        names.setdefault(stem_of(file.relative.name), []).append(file)
    patients: dict[str, str] = {}
    for entry in entries:
        if not entry.patient:
            continue
        patient = pseudonyms.key("patient", entry.patient)
        keys = [pseudonyms.key("instance", entry.id), pseudonyms.key("series", entry.id)] if entry.id else []
        keys += [pseudonyms.key("file", file.name) for file in _files_of(entry, folder, places, names)]
        for key in keys:
            if patients.setdefault(key, patient) != patient:
                raise UsageError(f"{entry.where} gives {entry.thing} another patient than an earlier entry: keep one")
    return patients


def _files_of(
    entry: Entry, folder: Path, places: dict[str, SourceFile], names: dict[str, list[SourceFile]]
) -> list[SourceFile]:
    found = []
    for name in entry.files:
        path = normal(name.partition("#")[0])
        if len(path.parts) == 1:
            found += names.get(stem_of(path.name), [])
        elif str(folder / path) in places:
            found.append(places[str(folder / path)])
        else:
            candidates = names.get(stem_of(path.name), [])
            found += [file for file in candidates if file.relative.parts[-len(path.parts) :] == path.parts]
    return found
