"""Blocks of remote shards against the bytes that were uploaded: faults of the server, bounds, many processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from buckets import BUCKET, Faults, bucket_server, client_of

from scoutview.objects import bucket_of
from scoutview.store.blocks import BLOCK, BlockCache, Range

SIZE = 5 * BLOCK + 12345
DATA = np.random.default_rng(0).bytes(SIZE)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Faults, str]]:
    faults = Faults()
    with bucket_server(faults) as endpoint:
        bucket_of.cache_clear()
        for name in ("a.tar", "b.tar"):
            client_of(endpoint).put_object(Bucket=BUCKET, Key=f"store/shards/{name}", Body=DATA)
        yield faults, endpoint
        bucket_of.cache_clear()


@pytest.fixture
def faults(served: tuple[Faults, str]) -> Iterator[Faults]:
    found = served[0]
    found.requests.clear()
    yield found
    found.refuse_every = found.cut_every = found.lie_every = 0


def cache_in(folder: Path, limit: int = 10**9) -> BlockCache:
    return BlockCache(f"s3://{BUCKET}/store/shards", folder, limit)


def test_any_range_is_what_was_uploaded(faults: Faults, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    chance = random.Random(0)
    ranges = [(0, 1), (SIZE - 1, 1), (0, SIZE), (BLOCK - 1, 2), (BLOCK, BLOCK), (SIZE - 5, 100)]
    begins = [chance.randrange(SIZE) for _ in range(30)]
    ranges += [(begin, chance.randrange(1, min(2 * BLOCK, SIZE - begin) + 1)) for begin in begins]
    for begin, length in ranges:
        assert cache.read(Range("a.tar", begin, length)) == DATA[begin : begin + length], (begin, length)
    assert len(faults.requests) == 6  # every block once
    with pytest.raises(FileNotFoundError, match="is not there"):
        cache.read(Range("gone.tar", 0, 10))


def test_neighbours_are_fetched_in_one_request(faults: Faults, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    cache.fetch([Range("a.tar", 10, BLOCK), Range("a.tar", 2 * BLOCK + 5, 10), Range("b.tar", 4 * BLOCK, 10)])
    assert sorted(faults.requests) == [("store/shards/a.tar", f"bytes=0-{3 * BLOCK - 1}"),
                                       ("store/shards/b.tar", f"bytes={4 * BLOCK}-{5 * BLOCK - 1}")]  # fmt: skip
    assert cache.read(Range("a.tar", 10, 2 * BLOCK)) == DATA[10 : 10 + 2 * BLOCK]
    assert len(faults.requests) == 2


@pytest.mark.parametrize("fault", ["refuse_every", "cut_every"])
def test_a_server_that_fails_now_and_then(faults: Faults, fault: str, tmp_path: Path) -> None:
    setattr(faults, fault, 3)
    cache = cache_in(tmp_path)
    cache.fetch([Range(name, number * BLOCK, 1) for name in ("a.tar", "b.tar") for number in (0, 2, 4)])
    for name in ("a.tar", "b.tar"):
        assert cache.read(Range(name, 0, SIZE)) == DATA


def test_blocks_that_are_forgotten_are_fetched_again(faults: Faults, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    cache.read(Range("a.tar", 0, 100))
    (block,) = [path for path in tmp_path.rglob("0") if path.is_file()]
    block.write_bytes(b"x" * BLOCK)
    assert cache.read(Range("a.tar", 0, 100)) == b"x" * 100
    cache.forget(Range("a.tar", 0, 100))
    assert cache.read(Range("a.tar", 0, 100)) == DATA[:100]


def test_the_folder_stays_below_its_bound_and_keeps_what_is_pinned(faults: Faults, tmp_path: Path) -> None:
    cache = cache_in(tmp_path, limit=4 * BLOCK)
    cache.read(Range("a.tar", 0, 2 * BLOCK, first=True))
    for number in range(4):
        cache.read(Range("b.tar", number * BLOCK, BLOCK))
        held = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        assert held <= 4 * BLOCK
    asked = len(faults.requests)
    assert cache.read(Range("a.tar", 0, 2 * BLOCK, first=True)) == DATA[: 2 * BLOCK]
    assert len(faults.requests) == asked


READER = """
import random, sys, zlib
from pathlib import Path
from scoutview.store.blocks import BLOCK, BlockCache, Range
cache = BlockCache(sys.argv[1], Path(sys.argv[2]), 4 * BLOCK)
chance = random.Random(sys.argv[3])
print("ready", flush=True)
while True:
    begin = chance.randrange(5 * BLOCK)
    sys.stdout.write(f"{begin} {zlib.crc32(cache.read(Range('a.tar', begin, 1000)))}\\n")
    sys.stdout.flush()
"""


def test_processes_that_share_a_folder_and_are_killed(faults: Faults, tmp_path: Path) -> None:
    command = [sys.executable, "-c", READER, f"s3://{BUCKET}/store/shards", str(tmp_path)]
    readers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(3)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    time.sleep(1.0)
    lines: list[str] = []
    for reader in readers:
        reader.send_signal(signal.SIGKILL)
        lines += (reader.communicate()[0] or "").splitlines()[:-1]
    assert len(lines) > 30
    for line in lines:
        begin, checksum = map(int, line.split())
        assert zlib.crc32(DATA[begin : begin + 1000]) == checksum
    assert cache_in(tmp_path).read(Range("a.tar", 0, SIZE)) == DATA
