"""Reading files in worker processes, in order, whatever happens to a worker."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from scoutview.errors import RunError
from scoutview.images import Modality
from scoutview.ingest.files import SourceFile, stamp_of
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.records import Outcome, read_outcomes

CHUNK = 8
"""Files per task: enough to hide the cost of a task, few enough to lose little with a worker."""

Read = Callable[[list[SourceFile]], list[Outcome]]


def outcomes(
    files: Sequence[SourceFile], modality: Modality | None, pseudonyms: Pseudonyms, workers: int
) -> Iterator[Outcome]:
    """The outcome of each file, in the order of `files`, which does not depend on `workers` (0 = all cores).

    One worker reads in this process. When a worker dies, the files of its task are read one at a time in a
    process of their own; the one that kills that too is refused as killed_the_reader.
    """
    read = partial(read_outcomes, modality=modality, pseudonyms=pseudonyms)
    workers = workers or available_cores()
    if workers == 1:
        for file in files:
            yield from read([file])
    elif files:
        yield from in_processes(files, read, workers)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(files: Sequence[SourceFile], read: Read, workers: int) -> Iterator[Outcome]:
    """`outcomes` in a process pool: at most two tasks per worker are under way, so that memory is bounded."""
    waiting = deque([list(files[begin : begin + CHUNK]) for begin in range(0, len(files), CHUNK)])
    under_way: deque[tuple[list[SourceFile], Future[list[Outcome]]]] = deque()
    pool = _pool(workers)
    try:
        while waiting or under_way:
            try:
                while waiting and len(under_way) < 2 * workers:
                    under_way.append((waiting[0], pool.submit(read, waiting[0])))
                    waiting.popleft()
                done = under_way[0][1].result()
            except BrokenProcessPool:
                # Every task under way is lost, and any may be the cause: the first is read with care, the
                # others go to a new pool.
                lost = [chunk for chunk, _ in under_way] or [waiting.popleft()]
                under_way.clear()
                pool.shutdown(cancel_futures=True)
                check_processes_start()
                pool = _pool(workers)
                waiting.extendleft(reversed(lost[1:]))
                for file in lost[0]:
                    yield from _alone(file, read)
                continue
            under_way.popleft()
            yield from done
    finally:
        pool.shutdown(cancel_futures=True)


def check_processes_start() -> None:
    """Whether a worker process can do anything at all, before a file is blamed for the death of one.

    Raises:
        RunError: if a process dies that has nothing to read.
    """
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise RunError(
                "the worker processes die as they start, before they read a file: a script that calls ingest must do "
                'so below `if __name__ == "__main__":`, because every worker imports it; or read with workers=1'
            ) from error


def _alone(file: SourceFile, read: Read) -> list[Outcome]:
    """Read one file in a process of its own."""
    stamp = stamp_of(file.path)
    with _pool(1) as pool:
        try:
            return pool.submit(read, [file]).result()
        except BrokenProcessPool:
            return [Outcome(file, stamp, reason="killed_the_reader", detail="the process that read it died")]


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
