"""A store in a bucket: its tables are copied to this machine when it is opened, its shards are read in blocks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scoutview.errors import RunError, UsageError
from scoutview.files import replacing, write_json
from scoutview.objects import ObjectEntry, fetch, objects_in
from scoutview.store.blocks import BlockCache

FOLDER, GIGABYTES = "SCOUTVIEW_CACHE", "SCOUTVIEW_CACHE_GB"
DEFAULT_GIGABYTES = 50.0
ATTEMPTS = 3
"""To copy a table; the client itself asks again when a server is busy."""
_TABLES = ("store.json", "quarantine.parquet", "catalog/", "annotations/")
_LISTING = ".mirror.json"


def cache_folder() -> Path:
    """Where copies of remote stores lie: SCOUTVIEW_CACHE, else in the user's cache folder."""
    named = os.environ.get(FOLDER, "")
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return Path(named) if named else (Path(cache) if cache else Path.home() / ".cache") / "scoutview" / "stores"


def cache_limit() -> int:
    """Bytes of shards that are kept on this machine: SCOUTVIEW_CACHE_GB, else 50 GB.

    Raises:
        UsageError: it is no number above 0.
    """
    text = os.environ.get(GIGABYTES, "") or str(DEFAULT_GIGABYTES)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not gigabytes > 0:
        raise UsageError(f"{GIGABYTES} is {text!r}: give a number of gigabytes above 0")
    return int(gigabytes * 1e9)


def mirror(url: str) -> tuple[Path, BlockCache]:
    """(folder with the current tables of the store at `url`, blocks of its shards).

    Tables that were copied before and have not changed are not copied again; ranks of one machine copy one by one.

    Raises:
        UsageError: there is no store.
        RunError: a table cannot be copied.
    """
    url = "s3://" + url.removeprefix("s3:").strip("/")
    cache = cache_folder()
    folder = cache / "tables" / hashlib.sha256(url.encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".mirror.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _update(url, folder)
    return folder, BlockCache(f"{url}/shards", cache / "blocks", cache_limit())


def _update(url: str, folder: Path) -> None:
    there = {
        entry.relative: entry
        for entry in objects_in(url)
        if entry.relative.startswith(_TABLES) and not entry.relative.startswith("catalog/merged/")
    }
    if "store.json" not in there:
        raise UsageError(
            f"{url} is not a store (it has no store.json): make one with scoutview ingest and copy it there"
        )
    outside = next((name for name in there if ".." in name.split("/")), None)
    if outside is not None:
        raise UsageError(f"{url} has a table {outside!r}, which lies outside of it: this is no store of scoutview")
    listing = folder / _LISTING
    known = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else {}
    changed = [entry for name, entry in there.items() if known.get(name) != entry.stamp or not (folder / name).exists()]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda entry: _copy(entry, folder), changed))
    for name in known:
        if name not in there:
            (folder / name).unlink(missing_ok=True)
    write_json(listing, {name: entry.stamp for name, entry in there.items()})


def _copy(entry: ObjectEntry, folder: Path, attempts: int = ATTEMPTS) -> None:
    try:
        with replacing(folder / entry.relative) as temporary, temporary.open("wb") as stream:
            if fetch(entry.url, stream) != entry.nbytes:
                raise OSError("fewer bytes arrived than were listed")
    except OSError as error:
        if attempts > 1:
            return _copy(entry, folder, attempts - 1)
        raise RunError(f"{entry.url} cannot be copied ({error}): check the connection and the disk") from error
