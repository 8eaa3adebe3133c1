"""Verify a store: checksums of every record, pixels against their SHA-256, every shard and table; rebuild catalogs.

The rows in a shard and those in its catalog say the same, and either is enough to check its images.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoutview.errors import RunError
from scoutview.images import pixel_sha256
from scoutview.progress import counted
from scoutview.store.catalog import ImageRow, read_parquet, rows_of, with_all_columns, write_parquet
from scoutview.store.codec import LEVELS
from scoutview.store.merging import derived_folder
from scoutview.store.reading import Store
from scoutview.store.shards import shard_digest, shard_rows

REBUILD = "scoutview fsck --rebuild writes it again from its shard"


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: an image of a shard, or a whole file (image is "" then)."""

    image: str
    file: str
    reason: str


def check_store(store: Store) -> tuple[int, list[Damage]]:
    """Read everything and return (images checked, damages), sorted by file and image."""
    damages: list[Damage] = []
    checked = 0
    for file in counted(store.catalog_files(), "shards"):
        count, found = _check_shard(store, file)
        checked += count
        damages += found
    for file in sorted([*store.path.glob("annotations/*.parquet"), *store.path.glob("quarantine.parquet")]):
        try:
            read_parquet(file)
        except (pa.ArrowException, OSError) as error:
            damages.append(Damage("", str(file.relative_to(store.path)), f"cannot be read: {error}"))
    return checked, damages


def _check_shard(store: Store, file: Path) -> tuple[int, list[Damage]]:
    """(images checked, damages) of a shard and its catalog file."""
    name = f"catalog/{file.parent.name}/{file.name}"
    shard = _shard_of(store, file)
    damages: list[Damage] = []
    rows, carried = _catalog_rows(file), _carried_rows(shard)
    if isinstance(rows, str):
        damages.append(Damage("", name, f"the catalog file cannot be read: {rows}; {REBUILD}"))
    elif carried is not None and not rows.equals(carried):
        damages.append(Damage("", name, f"the catalog file differs from the rows in its shard; {REBUILD}"))
    table = carried if carried is not None else rows
    if isinstance(table, str):
        return 0, damages
    images = rows_of(table)
    found = [Damage(row.image, f"shards/{row.modality}/{row.shard}", reason)
             for row in images if (reason := _check_row(store, row))]  # fmt: skip
    if not found and shard_digest(shard) != shard.name:
        place = f"shards/{file.parent.name}/{shard.name}"
        reason = "its images are whole, but tar headers, padding or rows beside them are not as they were written"
        found.append(Damage("", place, reason))
    return len(images), damages + found


def rebuild_catalog(store: Store) -> tuple[list[str], list[str]]:
    """Write catalog files that are missing, damaged or different again, from the rows that shards carry.

    A shard without a catalog file whose images lie in other shards, too, is what a killed ingest left behind, and
    stays out.

    Returns:
        (catalog files that were written, reasons why others could not be).
    """
    written, refused = [], []
    shards = {(path.parent.name, path.stem): path for path in sorted(store.path.glob("shards/*/*.tar"))}
    good: set[tuple[str, str]] = set()
    images: set[str] = set()
    for key, path in shards.items():
        rows = _catalog_rows(_catalog_of(store, path))
        if not isinstance(rows, str) and _carried_rows(path) in (None, rows):
            good.add(key)
            images.update(rows.column("image").to_pylist())
    for key, path in shards.items():
        if key in good:
            continue
        name = f"catalog/{path.parent.name}/{path.stem}.parquet"
        carried = _carried_rows(path)
        if carried is None:
            refused.append(f"{name}: its shard carries no rows that are whole")
        elif not _catalog_of(store, path).exists() and images & set(carried.column("image").to_pylist()):
            refused.append(f"{name}: its images are in other shards, too; the shard may be removed")
        else:
            write_parquet(carried, _catalog_of(store, path))
            images.update(carried.column("image").to_pylist())
            written.append(name)
    if written:
        shutil.rmtree(derived_folder(store.path), ignore_errors=True)
    return written, refused


def uncommitted_shards(store: Store) -> list[str]:
    """Shards without a catalog file: what a killed ingest left; the images are taken again by the next one."""
    committed = {(file.parent.name, file.stem) for file in store.catalog_files()}
    return sorted(
        f"shards/{file.parent.name}/{file.name}"
        for file in store.path.glob("shards/*/*.tar")
        if (file.parent.name, file.stem) not in committed
    )


def _shard_of(store: Store, catalog: Path) -> Path:
    return store.path / "shards" / catalog.parent.name / f"{catalog.stem}.tar"


def _catalog_of(store: Store, shard: Path) -> Path:
    return store.path / "catalog" / shard.parent.name / f"{shard.stem}.parquet"


def _catalog_rows(file: Path) -> Any:
    """The table of a catalog file, or a text that says why there is none."""
    try:
        return with_all_columns(read_parquet(file))
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        return str(error)


def _carried_rows(shard: Path) -> Any:
    """The rows in a shard, or None when it carries none that are whole."""
    try:
        return shard_rows(shard)
    except (OSError, ValueError):
        return None


def _check_row(store: Store, row: ImageRow) -> str:
    try:
        pixels = store.read(row)
        for level in range(1, LEVELS + 1):
            store.read(row, level)
    except RunError as error:
        return str(error)
    if pixel_sha256(pixels) != row.pixel_sha256:
        return "the decoded pixels differ from those that were stored"
    return ""
