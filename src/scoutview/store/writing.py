"""Adding images to a store: shard first, catalog row last, so that a kill leaves a readable store."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from scoutview.errors import RunError, UsageError
from scoutview.files import write_json
from scoutview.images import MODALITIES
from scoutview.store.catalog import read_parquet, rows_to_table, write_parquet
from scoutview.store.reading import QUARANTINE, STORE_VERSION, read_store_json
from scoutview.store.seal import with_checksum
from scoutview.store.shards import SHARD_BYTES, Record, ShardFile

SCRATCH = ".scratch"
"""Folder of a store for what only an ingest that is under way needs; removed when one begins and when it ends."""


class StoreWriter:
    """Appends to a store, one writer at a time (a lock file says so); use as a context manager.

    `commit` makes everything added so far durable and visible; leaving the context commits, an error in it
    discards what was not committed. A full disk is a RunError that says what was kept.
    """

    def __init__(self, path: Path, salt_id: str, shard_bytes: int = SHARD_BYTES, keeps: bool = True) -> None:
        """keeps: False for a rehearsal, whose images are dropped where they would be committed."""
        self.path = path
        self.keeps = keeps
        self.shard_bytes = shard_bytes
        self.open_shards: dict[str, ShardFile] = {}
        self.pending_quarantine: list[dict[str, str]] = []
        self._prepare(salt_id)

    def _prepare(self, salt_id: str) -> None:
        try:
            self._prepare_folder(salt_id)
        except OSError as error:
            raise self._full(error) from error

    def _prepare_folder(self, salt_id: str) -> None:
        refuse_other_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.lock.close()
            raise UsageError(f"{self.path} is being written by another process: wait until it ends") from error
        if (self.path / "store.json").exists():
            known = read_store_json(self.path)["salt_id"]
            if known != salt_id:
                raise UsageError(
                    f"{self.path} was written under another pseudonym secret ({known}, now {salt_id}): set "
                    "SCOUTVIEW_KEY to the secret it was made with, or write a new store"
                )
        else:
            write_json(
                self.path / "store.json",
                with_checksum({"version": STORE_VERSION, "salt_id": salt_id, "reference_energies": {}}),
            )
        shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        for leftover in [*self.path.glob("shards/*/.writing-*.tar"), *self.path.rglob(".*.tmp")]:
            leftover.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            for shard in self.open_shards.values():
                shard.discard()
            self.open_shards.clear()
            shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
            self.lock.close()

    def add(self, record: Record) -> None:
        """Append one image to the open shard of its modality; a full shard is committed."""
        modality = record.row.modality
        if modality not in MODALITIES:
            raise UsageError(f"unknown modality {modality!r}: one of {', '.join(MODALITIES)}")
        try:
            if modality not in self.open_shards:
                self.open_shards[modality] = ShardFile(self.path / "shards" / modality)
            shard = self.open_shards[modality]
            shard.append(record)
            if shard.position >= self.shard_bytes:
                self._commit_shard(modality)
        except OSError as error:
            raise self._full(error) from error

    def quarantine(self, path: str, reason: str, detail: str, file_key: str, file_stamp: str) -> None:
        """Remember a file that was not taken, and why; replaces an older entry of the same file."""
        self.pending_quarantine.append(
            {"path": path, "reason": reason, "detail": detail, "file_key": file_key, "file_stamp": file_stamp}
        )

    def commit(self) -> None:
        """Close the open shards, write their catalogs and the quarantine list."""
        try:
            for modality in sorted(self.open_shards):
                self._commit_shard(modality)
            if self.pending_quarantine:
                self._write_quarantine()
        except OSError as error:
            raise self._full(error) from error

    def set_reference_energies(self, energies: dict[str, Any]) -> None:
        """Store the reference band energies per modality in store.json."""
        content = read_store_json(self.path)
        content["reference_energies"] = energies
        try:
            write_json(self.path / "store.json", with_checksum(content))
        except OSError as error:
            raise self._full(error) from error

    def _commit_shard(self, modality: str) -> None:
        shard = self.open_shards.pop(modality)
        if not self.keeps:
            shard.discard()
            return
        try:
            name, rows = shard.close()
        except OSError:
            shard.discard()
            raise
        catalog = self.path / "catalog" / modality / f"{name.removesuffix('.tar')}.parquet"
        write_parquet(rows_to_table(rows), catalog)

    def _write_quarantine(self) -> None:
        path = self.path / "quarantine.parquet"
        entries: dict[str, dict[str, str]] = {}
        known: Sequence[dict[str, str]] = read_parquet(path).to_pylist() if path.exists() else []
        for entry in [*known, *self.pending_quarantine]:
            entries[entry["file_key"]] = entry
        write_parquet(pa.Table.from_pylist(list(entries.values()), schema=QUARANTINE), path)
        self.pending_quarantine.clear()

    def _full(self, error: OSError) -> RunError:
        return write_error(self.path, error)


def refuse_other_folder(path: Path) -> None:
    """Refuse a file, and a folder of something else than a store."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file: give a folder for the store")
    if path.is_dir() and any(path.iterdir()) and not (path / "store.json").exists():
        names = {entry.name for entry in path.iterdir() if not _is_temporary(entry)}
        if not names <= {".lock", "shards", "catalog", "annotations", SCRATCH}:
            raise UsageError(f"{path} holds other files and no store.json: give a new or empty folder")


def write_error(path: Path, error: OSError) -> RunError:
    """One line that says why nothing more can be written to a store."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RunError(
            f"the disk of {path} is full: free space and run the same command again; what was committed is kept"
        )
    reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
    return RunError(
        f"cannot write to {path} ({reason}): check the disk and its permissions, then run the command again"
    )


def _is_temporary(path: Path) -> bool:
    """A file that a killed process left while it was replacing another."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def remove_quarantined(path: Path, file_keys: set[str]) -> None:
    """Forget quarantine entries of files that have been taken since.

    Raises:
        RunError: if the list cannot be written.
    """
    listing = path / "quarantine.parquet"
    if not file_keys or not listing.exists():
        return
    kept = [entry for entry in read_parquet(listing).to_pylist() if entry["file_key"] not in file_keys]
    try:
        write_parquet(pa.Table.from_pylist(kept, schema=QUARANTINE), listing)
    except OSError as error:
        raise write_error(path, error) from error
