"""Taking images from several stores into one: whole shards by hard link or copy, parts of shards packed anew.

Nothing is decoded or encoded again; every checksum is verified on the way. A shard is committed by its catalog, as at
ingest, so that a kill leaves a store that the same call continues, and a second call adds nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scoutview.errors import RunError, UsageError
from scoutview.files import replacing
from scoutview.images import MODALITIES
from scoutview.store.annotations import Annotation, Key, add_annotations, grouped, read_annotations
from scoutview.store.catalog import ImageRow, rows_of, rows_to_table, write_parquet
from scoutview.store.filtering import passing_rows
from scoutview.store.merging import read_catalog_file
from scoutview.store.reading import Store
from scoutview.store.shards import SHARD_BYTES, Record
from scoutview.store.volumes import single
from scoutview.store.writing import StoreWriter, remove_quarantined, write_error

_OWNED = ["image", "modality", "patient", "stack", "file_key", "file_stamp"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A store to take from. files: of its catalog, each with the flags [row] of the images that are wanted."""

    store: Store
    files: dict[Path, npt.NDArray[np.bool_]]

    @classmethod
    def of(cls, store: Store, where: str | None) -> Self:
        """All images of a store, or those that pass an SQL expression (see `passing_rows`).

        Raises:
            UsageError: if the expression is wrong.
            RunError: if the catalog is damaged, or the store grew meanwhile.
        """
        files = store.catalog_files()
        counts = [_count(file) for file in files]
        flags = passing_rows(store, where) if where else np.ones(sum(counts), dtype=np.bool_)
        if len(flags) != sum(counts):
            raise RunError(f"{store.path} grew while it was read: run the command again")
        parts = np.split(flags, np.cumsum(counts)[:-1]) if files else []
        return cls(store, dict(zip(files, parts, strict=True)))

    @property
    def images(self) -> int:
        """How many are wanted."""
        return sum(int(flags.sum()) for flags in self.files.values())


def _count(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, ValueError):
        return int(read_catalog_file(file).num_rows)  # which says what is wrong


@dataclass
class Taken:
    """What a call did. linked, copied: whole shards; packed: shards of which a part was taken; images: that are new.

    dissolved: images that were slices of a volume, of which other slices were not taken. differing: statements that
    were left out because the store, or one named earlier, says something else.
    """

    linked: int = 0
    copied: int = 0
    packed: int = 0
    images: int = 0
    dissolved: int = 0
    differing: int = 0


def take_images(writer: StoreWriter, sources: Sequence[Source], progress: Progress | None = None) -> Taken:
    """Bring the wanted images of all sources into a store, with their annotations and the lists of refused files.

    An image that several hold is taken once, from the first. Of statements that differ, that of the store counts, then
    that of the first source. progress: called with (shards done, shards).

    Raises:
        UsageError: if two stores have an image under different patients or modalities.
        RunError: if an image or a table of a source is damaged, or the store cannot be written.
    """
    gathering = _Gathering.of(writer)
    refused = _refused(sources)
    work = [
        (source.store, file, source.files[file])
        for modality in MODALITIES  # so that packed shards are full
        for source in sources
        for file in source.files
        if file.parent.name == modality
    ]
    for done, (store, file, flags) in enumerate(work, start=1):
        gathering.take(store, file, flags)
        if progress:
            progress(done, len(work))
    writer.commit()
    _add_refused(writer, refused, gathering.files)
    gathering.taken.differing = _add_statements(Store.open(writer.path), sources, gathering.targets)
    return gathering.taken


@dataclass
class _Gathering:
    """What the store holds. held: image -> its modality and patient. stacks: volumes.

    files: (key, stamp) of the files that images were taken from. targets: what statements about wanted images name.
    """

    writer: StoreWriter
    held: dict[str, str] = field(default_factory=dict)
    stacks: set[str] = field(default_factory=set)
    files: set[tuple[str, str]] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)
    waiting: int = 0
    taken: Taken = field(default_factory=Taken)

    @classmethod
    def of(cls, writer: StoreWriter) -> _Gathering:
        gathering = cls(writer)
        for file in Store.open(writer.path).catalog_files():
            for values in read_catalog_file(file).select(_OWNED).to_pylist():
                gathering._note(**values)
        return gathering

    def _note(self, image: str, modality: str, patient: str, stack: str, file_key: str, file_stamp: str) -> None:
        self.held[image] = _owner(modality, patient)
        self.files.add((file_key, file_stamp))
        if stack:
            self.stacks.add(stack)

    def take(self, store: Store, file: Path, flags: npt.NDArray[np.bool_]) -> None:
        """Take what is wanted of one shard and not held yet."""
        if not flags.any():
            return
        rows = rows_of(read_catalog_file(file))
        wanted = [row for row, flag in zip(rows, flags, strict=True) if flag]
        for row in wanted:
            self._check_owner(row, store)
            self.targets.update(filter(None, (row.image, row.series, row.study)))
        new = self._dissolved(rows, [row for row in wanted if row.image not in self.held])
        if not new:
            return
        if new == rows and store.blocks is None:
            self._take_shard(store, file, rows)
        else:
            self._pack(store, new)
        self.taken.images += len(new)
        for row in new:
            self._note(row.image, row.modality, row.patient, row.stack, row.file_key, row.file_stamp)

    def _check_owner(self, row: ImageRow, store: Store) -> None:
        """One patient in two splits would be a leak that nobody sees."""
        known = self.held.get(row.image)
        if known not in (None, _owner(row.modality, row.patient)):
            raise UsageError(
                f"image {row.image} is {_owner(row.modality, row.patient)} in {store.path} and {known} in another "
                "store: ingest one of them again with the same --labels, --patient_column and --modality"
            )

    def _dissolved(self, rows: Sequence[ImageRow], new: Sequence[ImageRow]) -> list[ImageRow]:
        """The new rows; a volume of which not all comes, or whose other slices lie elsewhere, is single images."""
        whole, coming = Counter(row.stack for row in rows), Counter(row.stack for row in new)
        broken = {stack for stack in coming if stack and (coming[stack] < whole[stack] or stack in self.stacks)}
        self.taken.dissolved += sum(row.stack in broken for row in new)
        return [single(row) if row.stack in broken else row for row in new]

    def _take_shard(self, store: Store, file: Path, rows: Sequence[ImageRow]) -> None:
        """Link or copy a shard of which every image is taken."""
        for row in rows:
            store.read_bytes(row)
        name = f"{rows[0].modality}/{rows[0].shard}"
        try:
            with replacing(self.writer.path / "shards" / name) as temporary:
                linked = _link_or_copy(Path(store.shards) / name, temporary)
            write_parquet(rows_to_table(rows), self.writer.path / "catalog" / rows[0].modality / file.name)
        except OSError as error:
            raise write_error(self.writer.path, error) from error
        self.taken.linked += linked
        self.taken.copied += not linked

    def _pack(self, store: Store, rows: Sequence[ImageRow]) -> None:
        """Append images to a new shard; commits come between shards, so never within a volume."""
        for row in rows:
            codestream, spectrum = store.read_bytes(row)
            self.writer.add(Record(row, bytes(codestream), bytes(spectrum)))
            self.waiting += len(codestream) + len(spectrum)
        self.taken.packed += 1
        if self.waiting >= SHARD_BYTES:
            self.writer.commit()
            self.waiting = 0


def _owner(modality: str, patient: str) -> str:
    return sys.intern(f"{modality} of patient {patient or 'unknown'}")


def _link_or_copy(shard: Path, target: Path) -> bool:
    """Whether a link could be made: not onto another disk, nor where file systems have none."""
    try:
        os.link(shard, target)
    except OSError:
        shutil.copyfile(shard, target)
        return False
    return True


def _refused(sources: Sequence[Source]) -> dict[str, dict[str, str]]:
    """The quarantine entries of all sources by file key; the first about a file counts."""
    entries: dict[str, dict[str, str]] = {}
    for source in sources:
        try:
            listed = source.store.quarantined()
        except (pa.ArrowException, OSError) as error:
            path = source.store.path
            raise RunError(f"{path}/quarantine.parquet is damaged ({error}): run scoutview fsck {path}") from error
        for entry in listed:
            entries.setdefault(entry["file_key"], entry)
    return entries


def _add_refused(writer: StoreWriter, refused: dict[str, dict[str, str]], files: set[tuple[str, str]]) -> None:
    """Add entries to the quarantine, but for files that another store could take as they are."""
    known = {entry["file_key"]: entry for entry in Store.open(writer.path).quarantined()}
    for key, entry in refused.items():
        if key not in known and (key, entry["file_stamp"]) not in files:
            writer.quarantine(**entry)
    writer.commit()
    remove_quarantined(writer.path, {key for key, entry in known.items() if (key, entry["file_stamp"]) in files})


def _add_statements(store: Store, sources: Sequence[Source], targets: set[str]) -> int:
    """Add what sources say about the targets and the store does not; returns how many keys they say otherwise."""
    held = grouped(read_annotations(store))
    new: dict[Key, list[Annotation]] = {}
    differing = 0
    for source in sources:
        for key, entries in grouped(read_annotations(source.store)).items():
            if key[0] not in targets:
                continue
            known = held.get(key) or new.setdefault(key, entries)
            differing += list(_said(known)) != list(_said(entries))
    add_annotations(store, [entry for entries in new.values() for entry in entries])
    return differing


def _said(entries: Sequence[Annotation]) -> Iterator[Annotation]:
    """Statements without the name of the file that they came from."""
    return (replace(entry, source="") for entry in entries)
