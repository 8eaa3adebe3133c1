"""Verify a store: every record's checksums, its pixels against their SHA-256, every catalog page."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from scoutview.errors import RunError
from scoutview.images import pixel_sha256
from scoutview.store.catalog import ImageRow, read_parquet, rows_of, with_all_columns
from scoutview.store.codec import LEVELS
from scoutview.store.reading import Store


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
    for file in store.catalog_files():
        name = f"catalog/{file.parent.name}/{file.name}"
        try:
            rows = rows_of(with_all_columns(read_parquet(file)))
        except (pa.ArrowException, OSError, TypeError, ValueError) as error:
            damages.append(Damage("", name, f"the catalog file cannot be read: {error}"))
            continue
        for row in rows:
            checked += 1
            reason = _check_row(store, row)
            if reason:
                damages.append(Damage(row.image, f"shards/{row.modality}/{row.shard}", reason))
    for file in sorted([*store.path.glob("annotations/*.parquet"), *store.path.glob("quarantine.parquet")]):
        try:
            read_parquet(file)
        except (pa.ArrowException, OSError) as error:
            damages.append(Damage("", str(file.relative_to(store.path)), f"cannot be read: {error}"))
    return checked, damages


def uncommitted_shards(store: Store) -> list[str]:
    """Shards without a catalog file: what a killed ingest left; the images are taken again by the next one."""
    committed = {(file.parent.name, file.stem) for file in store.catalog_files()}
    return sorted(
        f"shards/{file.parent.name}/{file.name}"
        for file in store.path.glob("shards/*/*.tar")
        if (file.parent.name, file.stem) not in committed
    )


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
