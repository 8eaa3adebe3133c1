"""kill -9 of workers and of the driver at random moments: is the store that comes out the undisturbed one?

Compared are every row of the catalog and every byte of every codestream and spectrum, and the quarantine, after the
same command ran once more in peace: a file whose reader was killed three times in a row is refused until then, and
counted below.

Run: python benchmarks/ingest_kills.py [--kills 50]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scoutview.phantoms import write_phantoms
from scoutview.store import Store, check_store

ENGINES: dict[str, list[str]] = {"pool": ["--workers", "2"], "dask": ["--workers", "2", "--cluster", "local"]}


def write_source(folder: Path) -> None:
    """Phantoms of four modalities, pictures, and files that are refused."""
    write_phantoms(folder / "phantoms", patients={"xray": 30, "ct": 25, "mr": 25, "us": 30}, size=160, slices=8)
    generator = np.random.default_rng(0)
    for number in range(120):
        pixels = generator.integers(0, 255, (160, 160), dtype=np.uint8)
        (folder / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number:03d}.png")
    for number in range(20):
        (folder / f"note{number}.txt").write_text("no image")


def content(path: Path) -> str:
    """A digest of all that a store holds, wherever in its shards it lies."""
    store = Store.open(path)
    lines = []
    for row in store.rows():
        values: dict[str, Any] = asdict(row)
        shard = path / "shards" / row.modality / values.pop("shard")
        with shard.open("rb") as stream:
            stream.seek(values.pop("spectrum_offset"))
            spectrum = stream.read(row.spectrum_nbytes)
            stream.seek(values.pop("offset_in_shard"))
            codestream = stream.read(row.nbytes)
        lines.append(f"{sorted(values.items())} {hashlib.sha256(spectrum + codestream).hexdigest()}")
    lines += [str(sorted(entry.items())) for entry in store.quarantined()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def start(source: Path, store: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """An ingest in a session of its own, so that nothing of it stays."""
    command = [sys.executable, "-m", "scoutview", "ingest", str(source), "--out", str(store), "--modality", "xray"]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def workers_of(driver: int) -> list[int]:
    """Processes that a driver started and that work."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            words = (status.parent / "cmdline").read_text()
        except (OSError, ValueError):
            continue
        if parent == driver and "spawn_main" in words:
            found.append(int(status.parent.name))
    return sorted(found)


def disturbed(source: Path, folder: Path, engine: str, kills: int, expected: str) -> tuple[int, int, int, int, int]:
    """(kills of drivers, of workers, stores that came out, stores that differ, files refused for a killed reader)."""
    chance = random.Random(engine)
    killed = {"driver": 0, "worker": 0}
    stores = different = refused = 0
    while sum(killed.values()) < kills:
        store = folder / f"{engine}-{stores}"
        process = start(source, store, ENGINES[engine])
        while True:
            time.sleep(chance.uniform(0.2, 4.0))
            if process.poll() is not None:
                if process.returncode == 0:
                    break
                process = start(source, store, ENGINES[engine])
                continue
            if sum(killed.values()) >= kills:
                process.wait()
            elif killed["worker"] <= killed["driver"]:
                found = workers_of(process.pid)
                if found:
                    os.kill(chance.choice(found), signal.SIGKILL)
                    killed["worker"] += 1
            else:
                process.kill()
                process.wait()
                killed["driver"] += 1
                process = start(source, store, ENGINES[engine])
        refused += sum(entry["reason"] == "killed_the_reader" for entry in Store.open(store).quarantined())
        if start(source, store, ENGINES[engine]).wait() != 0:
            raise SystemExit("the last ingest failed")
        stores += 1
        different += content(store) != expected or bool(check_store(Store.open(store))[1])
        shutil.rmtree(store)
    return killed["driver"], killed["worker"], stores, different, refused


def main() -> None:
    """Print kills and differences, per engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    kills = parser.parse_args().kills
    os.environ.setdefault("SCOUTVIEW_KEY", "phantoms need no secret")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder / "source")
        process = start(folder / "source", folder / "undisturbed", ["--workers", "1"])
        if process.wait() != 0:
            raise SystemExit("the undisturbed ingest failed")
        expected = content(folder / "undisturbed")
        time.sleep(1)
        for engine in ENGINES:
            drivers, workers, stores, different, refused = disturbed(folder / "source", folder, engine, kills, expected)
            time.sleep(3)
            left = subprocess.run(["pgrep", "-cf", str(folder)], capture_output=True, text=True, check=False).stdout
            print(f"{engine}: {drivers} drivers and {workers} workers killed, {stores} stores completed")
            print(f"{engine}: files refused until the last run because their readers were killed: {refused}")
            print(f"{engine}: kills: {drivers + workers} (bar: >= {kills})")
            print(f"{engine}: stores that differ: {different} (bar: <= 0)")
            print(f"{engine}: processes left behind: {int(left.strip() or 0)} (bar: <= 0)")


if __name__ == "__main__":
    main()
