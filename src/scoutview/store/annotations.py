"""What is known about images: labels, boxes, splits, from one or several readers; added after ingest too.

A file of annotations/ is never changed. A later one replaces what an earlier one says for the same
(target, kind, name, reader).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

from scoutview.errors import RunError
from scoutview.store.catalog import ImageRow, read_parquet, write_parquet
from scoutview.store.reading import Store
from scoutview.store.writing import write_error

Key = tuple[str, str, str, str]
Kind = Literal["label", "box", "split"]

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
    ]
)


@dataclass(frozen=True)
class Annotation:
    """One statement about an image or a series.

    target: image id or series key. kind "label": `name` has `value` (text; "0"/"1" for a finding).
    kind "box": a finding `name` in pixels, x and y of the top left corner, width, height, with value "1"; with
    value "0" and no coordinates the image was searched for it, and has none.
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


def add_annotations(store: Store, annotations: Sequence[Annotation]) -> None:
    """Append annotations as one new file, atomically; adding what already holds changes nothing.

    Raises:
        RunError: if a file of annotations is damaged, or the new one cannot be written.
    """
    held = _grouped(read_annotations(store))
    if all(held.get(key) == entries for key, entries in _grouped(annotations).items()):
        return
    content = [asdict(annotation) for annotation in annotations]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    existing = sorted((store.path / "annotations").glob("*.parquet"))
    number = int(existing[-1].name.split("-")[0]) + 1 if existing else 1
    table = pa.Table.from_pylist(content, schema=SCHEMA)
    try:
        write_parquet(table, store.path / "annotations" / f"{number:06d}-{digest}.parquet")
    except OSError as error:
        raise write_error(store.path, error) from error


def read_annotations(store: Store) -> list[Annotation]:
    """Everything that holds now, in a stable order; boxes of one (target, name, reader) are replaced together.

    Raises:
        RunError: if a file is damaged.
    """
    groups: dict[Key, list[Annotation]] = {}
    for file in sorted((store.path / "annotations").glob("*.parquet")):
        try:
            entries = [Annotation(**entry) for entry in read_parquet(file).to_pylist()]
        except (pa.ArrowException, OSError) as error:
            raise RunError(f"{file} is damaged ({error}): remove it and add its labels again") from error
        groups.update(_grouped(entries))
    return [entry for key in sorted(groups) for entry in groups[key]]


def _grouped(annotations: Iterable[Annotation]) -> dict[Key, list[Annotation]]:
    """What replaces what: by target, kind, name and reader."""
    groups: dict[Key, list[Annotation]] = {}
    for entry in annotations:
        groups.setdefault((entry.target, entry.kind, entry.name, entry.reader), []).append(entry)
    return groups


def image_labels(annotations: Iterable[Annotation], rows: Iterable[ImageRow]) -> dict[str, dict[str, str]]:
    """label name -> image id -> value. A label of a series holds for each of its images; an image's own wins.

    Several readers: the value that most of them gave, the alphabetically first of equals.
    """
    by_target: dict[tuple[str, str], list[str]] = {}
    for annotation in annotations:
        if annotation.kind == "label":
            by_target.setdefault((annotation.target, annotation.name), []).append(annotation.value)
    names = sorted({name for _, name in by_target})
    labels: dict[str, dict[str, str]] = {name: {} for name in names}
    for row in rows:
        for name in names:
            values = by_target.get((row.image, name)) or by_target.get((row.series, name))
            if values:
                labels[name][row.image] = max(sorted(set(values)), key=values.count)
    return labels


def split_of(rows: Iterable[ImageRow], annotations: Iterable[Annotation]) -> dict[str, str]:
    """image id -> split: what an annotation says, else what the hash of the patient key gave at ingest."""
    said: dict[str, str] = {
        annotation.target: annotation.value for annotation in annotations if annotation.kind == "split"
    }
    return {row.image: said.get(row.image) or said.get(row.series) or row.split for row in rows}
