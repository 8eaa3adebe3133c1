"""What is known about images: labels, boxes, masks, splits, from one or several readers; added after ingest too.

A file of annotations/ is never changed. A later one replaces what an earlier one says for the same
(target, kind, name, reader).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoutview.errors import RunError
from scoutview.images.types import LARGEST_AREA
from scoutview.store.catalog import read_parquet, write_parquet
from scoutview.store.masks import decode_mask, encode_mask
from scoutview.store.reading import Store
from scoutview.store.seal import verify
from scoutview.store.writing import write_error

Key = tuple[str, str, str, str]
Kind = Literal["label", "box", "mask", "split"]

UNCERTAIN = "?"
"""The value of a label that a reader looked for and left open: neither present nor absent."""

SCHEMA = pa.schema(
    [
        ("target", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("value", pa.string()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("width", pa.float64()),
        ("height", pa.float64()),
        ("reader", pa.string()),
        ("source", pa.string()),
        ("mask", pa.binary()),
    ]
)


_TEXTS = [SCHEMA.names.index(name) for name in ("target", "kind", "name", "value", "reader", "source")]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One statement about an image, a series or a study; what is said of a slice is said of its image.

    target: image id, series key or study key. A statement about a series or a study holds for each of its images
    of which the same reader says nothing of its own.
    kind "label": `name` has `value` (text; "0"/"1" for a finding, "?" where the reader left it open).
    kind "box": a finding `name` in pixels, x and y of the top left corner, width, height, with value "1"; with
    value "0" and no coordinates the image was searched for it, and has none.
    kind "mask": the same with the pixels of the finding; x, y, width and height are the rectangle around them
    (`mask_annotation` makes one, `bitmap_of` unpacks it).
    kind "split": value is "train", "validation" or "test".
    """

    target: str
    kind: Kind
    name: str
    value: str
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    reader: str = ""
    source: str = ""
    mask: bytes | None = None


class Named(Protocol):
    """What statements refer to: a catalog row has it."""

    @property
    def image(self) -> str:
        """Id of the image."""

    @property
    def series(self) -> str:
        """Key of its series."""

    @property
    def study(self) -> str:
        """Key of its study."""

    @property
    def split(self) -> str:
        """The split that ingest set."""


@dataclass(frozen=True, slots=True)
class ImageNames:
    """The columns of a catalog row that `Named` asks for."""

    image: str
    series: str
    study: str
    split: str


def mask_annotation(
    target: str, name: str, bitmap: npt.NDArray[np.bool_], reader: str = "", source: str = ""
) -> Annotation:
    """The pixels of a finding, bitmap [row, column]; without any the statement that the image has none."""
    if not bitmap.any():
        return Annotation(target, "mask", name, "0", reader=reader, source=source)
    (x, y, width, height), mask = encode_mask(bitmap)
    return Annotation(target, "mask", name, "1", x, y, width, height, reader, source, mask)


def bitmap_of(annotation: Annotation, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """The bitmap [rows, columns] of a mask, for an image of that size.

    Raises:
        ValueError: if the annotation is no mask, or does not fit the image.
    """
    if annotation.kind != "mask":
        raise ValueError(f"a {annotation.kind} is no mask")
    if annotation.mask is None:
        return np.zeros((rows, columns), dtype=np.bool_)
    values = (annotation.x, annotation.y, annotation.width, annotation.height)
    if not all(abs(value or 0) < LARGEST_AREA for value in values):
        raise ValueError(f"a mask at {values} fits no image")
    x, y, width, height = (int(value or 0) for value in values)
    return decode_mask(annotation.mask, (x, y, width, height), rows, columns)


def add_annotations(store: Store, annotations: Sequence[Annotation]) -> None:
    """Append annotations as one new file, atomically; adding what already holds changes nothing.

    Raises:
        RunError: if a file of annotations is damaged, or the new one cannot be written.
    """
    held = grouped(read_annotations(store))
    if all(held.get(key) == entries for key, entries in grouped(annotations).items()):
        return
    columns = {name: [getattr(annotation, name) for annotation in annotations] for name in SCHEMA.names}
    digest = _digest(columns)
    existing = sorted((store.path / "annotations").glob("*.parquet"))
    number = int(existing[-1].name.split("-")[0]) + 1 if existing else 1
    table = pa.table(columns, schema=SCHEMA)
    try:
        write_parquet(table, store.path / "annotations" / f"{number:06d}-{digest}.parquet")
    except OSError as error:
        raise write_error(store.path, error) from error


def _digest(columns: Mapping[str, Sequence[Any]]) -> str:
    """16 hex digits that name the content, without a second copy of it in memory."""
    digest = hashlib.sha256()
    for values in zip(*columns.values(), strict=True):
        text = json.dumps([value.hex() if isinstance(value, bytes) else value for value in values])
        digest.update(text.encode())
    return digest.hexdigest()[:16]


def read_annotations(store: Store) -> list[Annotation]:
    """Everything that holds now, in a stable order; boxes of one (target, name, reader) are replaced together.

    Raises:
        RunError: if a file is damaged.
    """
    groups: dict[Key, list[Annotation]] = {}
    for file in annotation_files(store):
        try:
            entries = _annotations_in(read_parquet(file))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise _damaged(file, error) from error
        groups.update(grouped(entries))
    return [entry for key in sorted(groups) for entry in groups[key]]


def annotation_files(store: Store) -> list[Path]:
    """The files of annotations in the order in which they were added, verified.

    Raises:
        RunError: if one is damaged.
    """
    files = sorted((store.path / "annotations").glob("*.parquet"))
    for file in files:
        try:
            verify(file)
        except OSError as error:
            raise _damaged(file, error) from error
    return files


def _damaged(file: Path, error: Exception) -> RunError:
    return RunError(f"{file} is damaged ({error}): remove it and add its labels again")


def rows_about(store: Store, targets: Collection[str]) -> list[ImageNames]:
    """The images that statements about these targets are about; other rows of the catalog are not kept in memory.

    Raises:
        RunError: if a file of the catalog is damaged.
    """
    # Its seal is over gigabytes at 10^8 images: a start-up without annotations must not read them.
    merged = store.merged_catalog() if targets else None
    if merged is None:
        return []
    wanted = pa.array(sorted(targets))
    found: list[ImageNames] = []
    with pq.ParquetFile(merged, page_checksum_verification=True) as file:
        for batch in file.iter_batches(columns=["image", "series", "study", "split"]):
            image, series, study = (pc.is_in(batch.column(name), wanted) for name in ("image", "series", "study"))
            rows = batch.filter(pc.or_(image, pc.or_(series, study)))
            found += [ImageNames(**row) for row in rows.to_pylist()]
    return found


def _annotations_in(table: Any) -> list[Annotation]:
    """The rows of a file of annotations; one that was written before there were masks has no such column."""
    if "mask" not in table.column_names:
        table = table.append_column(SCHEMA.field("mask"), pa.nulls(table.num_rows, pa.binary()))
    table = table.select(SCHEMA.names).cast(SCHEMA)
    if any(table.column(index).null_count for index in _TEXTS):
        raise ValueError("texts are missing")
    entries = []
    for batch in table.to_batches(max_chunksize=2**16):
        columns = [column.to_pylist() for column in batch.columns]
        for index in _TEXTS:
            columns[index] = [sys.intern(text) for text in columns[index]]  # millions of rows share a few texts
        entries += [Annotation(*values) for values in zip(*columns, strict=True)]
    return entries


def grouped(annotations: Iterable[Annotation]) -> dict[Key, list[Annotation]]:
    """What replaces what: by target, kind, name and reader."""
    groups: dict[Key, list[Annotation]] = {}
    for entry in annotations:
        groups.setdefault((entry.target, entry.kind, entry.name, entry.reader), []).append(entry)
    return groups


def image_labels(annotations: Iterable[Annotation], rows: Iterable[Named]) -> dict[str, dict[str, str]]:
    """label name -> image id -> value, by this consensus:

    Of one reader, what is said of the image counts before what is said of its series, and that before its study.
    Of several readers, the value that most of them gave, the alphabetically first of equals: a finding that half
    of the readers saw is absent. A reader who left it open has no vote; if all did, the label is unknown.
    """
    by_target: dict[str, dict[str, dict[str, str]]] = {}
    for annotation in annotations:
        if annotation.kind == "label":
            names = by_target.setdefault(annotation.target, {})
            names.setdefault(annotation.name, {})[annotation.reader] = annotation.value
    labels: dict[str, dict[str, str]] = {
        name: {} for name in sorted({name for names in by_target.values() for name in names})
    }
    for row in rows:
        said: dict[str, dict[str, str]] = {}
        for target in filter(None, (row.study, row.series, row.image)):
            for name, readers in by_target.get(target, {}).items():
                said[name] = {**said.get(name, {}), **readers}
        for name, readers in said.items():
            votes = [value for value in readers.values() if value != UNCERTAIN]
            if votes:
                labels[name][row.image] = max(sorted(set(votes)), key=votes.count)
    return labels


def split_of(rows: Iterable[Named], annotations: Iterable[Annotation]) -> dict[str, str]:
    """image id -> split: what an annotation says, else what the hash of the patient key gave at ingest."""
    said: dict[str, str] = {
        annotation.target: annotation.value for annotation in annotations if annotation.kind == "split"
    }
    return {row.image: said.get(row.image) or said.get(row.series) or said.get(row.study) or row.split for row in rows}
