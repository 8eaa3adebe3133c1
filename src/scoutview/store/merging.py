"""What is derived from the catalog and kept beside it: all rows in one file, and the index. Built once, by one process.

Everything here may be removed at any time; it is built again when the listing of the catalog has changed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoutview.errors import RunError
from scoutview.files import replacing
from scoutview.store.catalog import SCHEMA, read_parquet, with_all_columns
from scoutview.store.seal import seal

GROUP_ROWS = 2**16
"""Rows of a row group of the merged catalog: enough for fast scans, few enough to hold in memory."""


def derived_folder(store: Path) -> Path:
    """Where derived files of a store lie: in it, or in the user's cache when the store cannot be written to."""
    folder = store / "catalog" / "merged"
    if os.access(folder if folder.exists() else store / "catalog", os.W_OK):
        return folder
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "scoutview"


@contextmanager
def only_builder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of derived files: ranks that start together wait for the one that builds."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_derived(folder: Path, keep: str) -> None:
    """Remove what belongs to other snapshots than `keep`, when the folder is inside a store; hold the lock."""
    for path in folder.iterdir() if folder.name == "merged" else ():
        if path.name == ".lock" or path.name.startswith(keep):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".parquet":
            path.unlink(missing_ok=True)


def merge_catalog(files: Sequence[Path], target: Path) -> None:
    """Write the rows of all catalog files, in their order, to one; holds a few row groups in memory, not all rows.

    Raises:
        RunError: if a catalog file is damaged; the message names it.
    """
    with (
        replacing(target) as temporary,
        pq.ParquetWriter(temporary, SCHEMA, compression="zstd", write_page_checksum=True) as writer,
    ):
        waiting: list[pa.Table] = []
        count = 0
        for file in files:
            waiting.append(read_catalog_file(file))
            count += waiting[-1].num_rows
            if count >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting), row_group_size=GROUP_ROWS)
                waiting, count = [], 0
        writer.write_table(pa.concat_tables([SCHEMA.empty_table(), *waiting]), row_group_size=GROUP_ROWS)
        writer.close()
        seal(temporary)


def read_catalog_file(file: Path) -> pa.Table:
    """The rows of a shard, with all columns of this version.

    Raises:
        RunError: if the file is damaged, or its rows are about another shard.
    """
    try:
        table = with_all_columns(read_parquet(file))
        for name, expected in (("modality", file.parent.name), ("shard", f"{file.stem}.tar")):
            if set(pc.unique(table.column(name)).to_pylist()) - {expected}:
                raise ValueError(f"its {name} is not {expected} throughout")
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        store = file.parents[2]
        raise RunError(f"{file} is damaged ({error}): run scoutview fsck {store}") from error
