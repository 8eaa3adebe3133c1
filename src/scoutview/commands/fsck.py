"""`scoutview fsck`: is everything in a store as it was written?"""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path

from scoutview.commands.terminal import printable
from scoutview.store import Store, check_store
from scoutview.store.fsck import rebuild_catalog, uncommitted_shards


def fsck(store: Path, *, rebuild: bool = False, json: bool = False) -> int:
    """Verify a store: every checksum, every image against its hash, every table.

    Args:
        store: Folder of the store.
        rebuild: First write catalog files that are missing or damaged again, from the rows that each shard carries.
        json: End with one line of JSON for programs.

    Returns:
        0 when nothing is damaged, else 1.

    Raises:
        UsageError: The folder is no store, or one of another version.
    """
    opened = Store.open(store)
    if rebuild:
        written, refused = rebuild_catalog(opened)
        for name in written:
            print(printable(f"rebuilt: {name}"))
        for reason in refused:
            print(printable(f"not rebuilt: {reason}"))
    images, damages = check_store(opened)
    for damage in damages:
        print(printable(f"damaged: {damage.file}{' image ' + damage.image if damage.image else ''}: {damage.reason}"))
    for shard in uncommitted_shards(opened):
        print(
            f"note: {printable(shard)} belongs to no catalog: an interrupted ingest left it, and it may be removed; "
            "if its catalog file was lost, --rebuild writes it again"
        )
    print(f"{images} images checked, {len(damages)} damaged")
    if damages:
        print("restore the damaged files from a copy, or ingest their sources into a new store")
    if json:
        print(dumps({"images": images, "damaged": [asdict(damage) for damage in damages]}), flush=True)
    return 1 if damages else 0
