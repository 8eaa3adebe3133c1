"""The same images in the same order: on any number of ranks, after a resume on another number, and with ranks killed.

Loader processes stand for ranks: each opens the archive by itself, iterates over its part of the batches, and writes
down what it got before the step counts as done. A step counts when every rank has it and the step number was saved,
as a checkpoint is: under a temporary name, then renamed. At random moments a random rank, or all of them, are killed
with SIGKILL; what is left is stopped, and all start again from the saved step, on another number of ranks.

Run: python benchmarks/elastic.py [--steps 2000] [--kills 30]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scoutview.batches import Archive, BatchPlan, Draw
from scoutview.batches.workers import batch_loader
from scoutview.files import write_text
from scoutview.images import MODALITIES, Image, encode_spectrum, radial_spectrum
from scoutview.store import StoreWriter, make_record
from scoutview.store.shards import Keys

RANKS = (1, 2, 3, 4, 6, 8, 12, 16)
BATCH = 192
EACH = 300
SAVED_EVERY = 10
"""Steps between checkpoints."""


def write_store(path: Path) -> None:
    """Small images, in series of up to nine."""
    generator = np.random.default_rng(0)
    spectrum = encode_spectrum(radial_spectrum(generator.random((16, 16))))
    with StoreWriter(path, "elastic", 2**18) as writer:
        for modality in MODALITIES:
            for number in range(EACH):
                name = f"{modality}-{number:05d}"
                keys = Keys(name, name, "", f"{modality}-{number // 9}", name, name, name, "", "", "train")
                image = Image(generator.integers(0, 4096, (16, 16)).astype(np.int16), modality)
                writer.add(make_record(image, keys, spectrum, "00000000"))


def plan_of(path: Path) -> tuple[Archive, BatchPlan]:
    """The plan, from nothing but the store and the seed."""
    archive = Archive.open([path])
    return archive, BatchPlan.make(archive.select(), BATCH, 7)


def read_images(archive: Archive, draws: Iterable[Draw]) -> list[tuple[int, int, int]]:
    """(position, index, checksum of the pixels) of the images of a batch."""
    found = []
    for draw in draws:
        store, row = archive.place(draw.index)
        found.append((draw.position, draw.index, int(store.read(row).astype(np.int64).sum())))
    return found


def global_batch(path: Path, step: int, ranks: int) -> list[tuple[int, int, int]]:
    """What all ranks get at a step, each from a plan of its own, in the order of the positions."""
    found = []
    for rank in range(ranks):
        archive, plan = plan_of(path)
        found += next(
            batch_loader(partial(read_images, archive), plan, step, step + 1, rank=rank, ranks=ranks, workers=0)
        )
    return sorted(found)


def rank_process(path: Path, folder: Path, attempt: int, rank: int, ranks: int, first: int, last: int) -> None:
    """Go through the steps, writing each down; all ranks wait for each other, as an all-reduce makes them."""
    archive, plan = plan_of(path)
    loader = batch_loader(partial(read_images, archive), plan, first, last, rank=rank, ranks=ranks, workers=0)
    with (folder / f"log-{attempt}-{rank}.txt").open("w") as log:
        for step in range(first, last):
            log.writelines(f"{step} {position} {index} {total}\n" for position, index, total in next(loader))
            log.flush()
            (folder / f"done-{attempt}-{rank}").write_text(str(step))
            while any(not reached(folder / f"done-{attempt}-{other}", step) for other in range(ranks)):
                time.sleep(0.0005)
            if rank == 0 and (step + 1) % SAVED_EVERY == 0:
                write_text(folder / "checkpoint", str(step + 1))


def reached(path: Path, step: int) -> bool:
    """Whether a rank has finished a step."""
    try:
        return int(path.read_text() or -1) >= step
    except FileNotFoundError:
        return False


def run_with_kills(path: Path, folder: Path, steps: int, kills: int) -> tuple[dict[int, list[Any]], int, list[int]]:
    """Train to the end through all kills; returns (step -> what was trained on, kills, ranks of each attempt)."""
    generator = np.random.default_rng(3)
    context = multiprocessing.get_context("fork")
    trained: dict[int, list[Any]] = {}
    killed, attempt, history = 0, 0, []
    # A kill falls at a random step within each of as many stretches of the run.
    targets = [int(generator.integers(place * steps // kills, (place + 1) * steps // kills)) for place in range(kills)]
    while (first := saved_step(folder)) < steps:
        ranks = int(generator.choice(RANKS))
        history.append(ranks)
        processes = [
            context.Process(target=rank_process, args=(path, folder, attempt, rank, ranks, first, steps))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        target = targets[killed] if killed < kills else steps
        victim = int(generator.integers(ranks))
        while any(process.is_alive() for process in processes):
            if killed < kills and reached(folder / f"done-{attempt}-{victim}", max(target, first)):
                time.sleep(float(generator.random()) * 0.01)
                os.kill(processes[victim].pid or 0, signal.SIGKILL)
                killed += 1
                for process in processes:
                    process.kill()
                break
            time.sleep(0.001)
        for process in processes:
            process.join()
        # What counts is what a checkpoint holds: the steps before it, whoever did them.
        until = saved_step(folder)
        for rank in range(ranks):
            collect(folder / f"log-{attempt}-{rank}.txt", first, until, trained)
        attempt += 1
    return trained, killed, history


def saved_step(folder: Path) -> int:
    """The step of the newest checkpoint."""
    file = folder / "checkpoint"
    return int(file.read_text()) if file.exists() else 0


def collect(log: Path, first: int, until: int, trained: dict[int, list[Any]]) -> None:
    """Add the lines of steps first, ..., until - 1 of a rank's log."""
    for line in log.read_text().splitlines() if log.exists() else ():
        numbers = [int(text) for text in line.split()]
        if len(numbers) == 4 and first <= numbers[0] < until:
            trained.setdefault(numbers[0], []).append(tuple(numbers[1:]))


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=30)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / "store"
        write_store(path)
        archive, plan = plan_of(path)
        generator = np.random.default_rng(1)
        compared, equal = 0, 0
        for ranks in RANKS:
            for step in generator.integers(0, 10**6, 3).tolist():
                other = int(generator.choice([number for number in RANKS if number != ranks]))
                for number, at in ((ranks, step), (other, step + 1)):
                    equal += global_batch(path, at, number) == sorted(read_images(archive, plan.batch(at)))
                    compared += 1
        trained, killed, history = run_with_kills(path, folder, arguments.steps, arguments.kills)
        undisturbed = {step: sorted(read_images(archive, plan.batch(step))) for step in range(arguments.steps)}
        same = {step: sorted(found) for step, found in trained.items()} == undisturbed
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"attempts: {len(history)}, on {', '.join(map(str, history))} ranks")
    print(f"global batches compared on {', '.join(map(str, RANKS))} ranks and after resumes: {compared}")
    print(f"exact: {'yes' if equal == compared else 'no'} (bar: yes)")
    print(f"kills in {arguments.steps} steps: {killed} (bar: >= 30)")
    print(f"ids trained on are those of an undisturbed run: {'yes' if same else 'no'} (bar: yes)")


if __name__ == "__main__":
    main()
