"""Parts of remote shards, kept in a folder of bounded size that all processes of a machine share.

A block is a file of its own, written under a temporary name and renamed: a reader sees all of it or none, also after
kill -9. Its bytes are not trusted: whoever reads a record checks its checksum, and asks for bad blocks once more.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from scoutview.objects import read_range

BLOCK = 2**20
"""Bytes. A CT image has a sixth of it: neighbours, which a lane soon needs, come with it."""
MOST_AT_ONCE = 16 * BLOCK
"""Neighbouring blocks are asked for in one request up to this."""
REQUESTS = 16
"""Under way at once, per process: 20 ms of latency then cost a millisecond each."""
KEPT = 0.9
"""Share of the bound: when the folder holds more than its bound, blocks go until it is below this."""


@dataclass(frozen=True)
class Range:
    """Bytes of a shard. key: of its object. first: whether it is removed last, when all else was."""

    key: str
    begin: int
    length: int
    first: bool = False


@dataclass
class BlockCache:
    """The blocks of the objects below a URL. limit: bytes of the folder, which other URLs share."""

    url: str
    folder: Path
    limit: int
    written: int = field(default=0, compare=False)

    def read(self, wanted: Range) -> bytes:
        """The bytes, fewer where the object ends; what is not there yet is fetched.

        Raises:
            FileNotFoundError: the object is gone.
            OSError: the server does not answer, or the disk is full.
        """
        parts = []
        for number in _blocks_of(wanted):
            begin = wanted.begin - number * BLOCK
            parts.append(self._part(wanted, number, max(begin, 0), min(begin + wanted.length, BLOCK)))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fetch(self, wanted: Sequence[Range]) -> None:
        """Have the blocks of many ranges here soon: what is missing is asked for together; failures show in `read`."""
        missing: dict[tuple[str, int], Range] = {}
        for item in wanted:
            for number in _blocks_of(item):
                if not self._path(item, number).exists():
                    missing[item.key, number] = item
        runs = _runs(sorted(missing), MOST_AT_ONCE // BLOCK)
        if len(runs) == 1:
            self._fetch_run(missing[runs[0][0]], runs[0])
        elif runs:
            list(_threads(os.getpid()).map(lambda run: self._fetch_run(missing[run[0]], run), runs))

    def forget(self, wanted: Range) -> None:
        """Remove the blocks of a range, whose bytes were not those that were written."""
        for number in _blocks_of(wanted):
            self._path(wanted, number).unlink(missing_ok=True)

    def _part(self, wanted: Range, number: int, begin: int, end: int) -> bytes:
        """Bytes begin, ..., end - 1 of a block, fewer where the object ends."""
        try:
            with self._path(wanted, number).open("rb", buffering=0) as file:
                os.utime(file.fileno())  # the least used go first
                return os.pread(file.fileno(), end - begin, begin)
        except FileNotFoundError:
            return self._get(wanted, number, 1)[begin:end]

    def _fetch_run(self, wanted: Range, run: Sequence[tuple[str, int]]) -> None:
        with suppress(OSError):
            self._get(wanted, run[0][1], len(run))

    def _get(self, wanted: Range, first: int, count: int) -> bytes:
        url = f"{self.url}/{wanted.key}"
        try:
            data = read_range(url, first * BLOCK, count * BLOCK)
        except FileNotFoundError:
            raise
        except OSError:  # an answer that was cut, which the client does not ask for again by itself
            data = read_range(url, first * BLOCK, count * BLOCK)
        for place in range(0, len(data), BLOCK):
            self._keep(self._path(wanted, first + place // BLOCK), data[place : place + BLOCK])
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:  # a full disk costs the cache, not the training
            temporary.unlink(missing_ok=True)
        self.written += len(data)
        # Every process looks at the whole folder when it has written a hundredth of it.
        if self.written >= self.limit // 100:
            self.written = 0
            self.shrink()

    def shrink(self) -> None:
        """Remove the least used blocks when the folder holds more than its bound; one process at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            blocks = []
            for name in ("later", "first"):
                for path in (self.folder / name).glob("*/*"):
                    with suppress(FileNotFoundError):
                        status = path.stat()
                        blocks.append((name == "first", status.st_mtime_ns, status.st_size, path))
            held = sum(size for _, _, size, _ in blocks)
            if held <= self.limit:
                return
            for _, _, size, path in sorted(blocks):
                if held <= KEPT * self.limit:
                    break
                path.unlink(missing_ok=True)
                held -= size

    def _path(self, wanted: Range, number: int) -> Path:
        return self.folder / ("first" if wanted.first else "later") / _name(f"{self.url}/{wanted.key}") / str(number)


@lru_cache(maxsize=4096)
def _name(url: str) -> str:
    """What the folder of an object's blocks is called."""
    return hashlib.sha256(url.encode()).hexdigest()[:24]


def _blocks_of(wanted: Range) -> range:
    return range(wanted.begin // BLOCK, (wanted.begin + max(wanted.length, 1) - 1) // BLOCK + 1)


def _runs(blocks: Sequence[tuple[str, int]], most: int) -> list[list[tuple[str, int]]]:
    """Neighbouring blocks of one object together, at most so many."""
    runs: list[list[tuple[str, int]]] = []
    for key, number in blocks:
        if runs and runs[-1][-1] == (key, number - 1) and len(runs[-1]) < most:
            runs[-1].append((key, number))
        else:
            runs.append([(key, number)])
    return runs


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Threads of this process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(REQUESTS, thread_name_prefix=f"blocks-{process}")
