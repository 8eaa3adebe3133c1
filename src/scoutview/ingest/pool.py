"""Reading files in worker processes, in order, whatever happens to a worker."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from scoutview.errors import RunError
from scoutview.images import Modality
from scoutview.ingest.files import SourceFile, stamp_of
from scoutview.ingest.outcomes import Outcome
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.records import read_outcomes
from scoutview.ingest.rules import Rules
from scoutview.ingest.series import IndexEntry, Job, Unit, index_files

CHUNK = 8
"""Files per task: enough to hide the cost of a task, few enough to lose little with a worker."""
INDEX_CHUNK = 64
"""Headers per task; a header is some fifty times cheaper than an image."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def index(files: Sequence[SourceFile], workers: int) -> Iterator[IndexEntry]:
    """What the headers say of each file, in the order of `files`; workers as in `outcomes`."""
    yield from _spread(files, index_files, IndexEntry, workers, INDEX_CHUNK)


def outcomes(
    units: Sequence[Unit], modality: Modality | None, pseudonyms: Pseudonyms, rules: Rules, workers: int
) -> Iterator[tuple[Unit, list[Outcome]]]:
    """Each unit with the outcomes of its files, in the order of `units`, which does not depend on `workers`.

    One worker reads in this process, 0 are as many as there are cores. When a worker dies, the files of its task
    are read one at a time in a process of their own; the one that kills that too is refused as killed_the_reader.
    The files of a unit that was refused are not read.
    """
    jobs = [job for unit in units if not unit.reason for job in unit.jobs]
    read = partial(read_outcomes, modality=modality, pseudonyms=pseudonyms, rules=rules)
    stream = _spread(jobs, read, _killed, workers, CHUNK)
    for unit in units:
        if unit.reason:
            yield unit, [Outcome(job.file, stamp_of(job.file.path)) for job in unit.jobs]
        else:
            yield unit, [next(stream) for _ in unit.jobs]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _killed(job: Job) -> Outcome:
    return Outcome(
        job.file, stamp_of(job.file.path), reason="killed_the_reader", detail="the process that read it died"
    )


def _spread(
    items: Sequence[Item],
    work: Callable[[list[Item]], list[Result]],
    died: Callable[[Item], Result],
    workers: int,
    chunk: int,
) -> Iterator[Result]:
    workers = workers or available_cores()
    if workers == 1:
        for item in items:
            yield from work([item])
    elif items:
        yield from in_processes(items, work, died, workers, chunk)


def in_processes(
    items: Sequence[Item],
    work: Callable[[list[Item]], list[Result]],
    died: Callable[[Item], Result],
    workers: int,
    chunk: int,
) -> Iterator[Result]:
    """`work` on chunks of items, in order: at most two tasks per worker are under way, so that memory is bounded.

    died: the result of an item whose process died.

    Raises:
        RunError: if no worker process can start.
    """
    waiting = deque([list(items[begin : begin + chunk]) for begin in range(0, len(items), chunk)])
    under_way: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    pool = _pool(workers)
    try:
        while waiting or under_way:
            try:
                while waiting and len(under_way) < 2 * workers:
                    under_way.append((waiting[0], pool.submit(work, waiting[0])))
                    waiting.popleft()
                done = under_way[0][1].result()
            except BrokenProcessPool:
                # Every task under way is lost, and any may be the cause: the first is read with care, the
                # others go to a new pool.
                lost = [task for task, _ in under_way] or [waiting.popleft()]
                under_way.clear()
                pool.shutdown(cancel_futures=True)
                check_processes_start()
                pool = _pool(workers)
                waiting.extendleft(reversed(lost[1:]))
                for item in lost[0]:
                    yield from _alone(item, work, died)
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


def _alone(item: Item, work: Callable[[list[Item]], list[Result]], died: Callable[[Item], Result]) -> list[Result]:
    """Work on one item in a process of its own."""
    with _pool(1) as pool:
        try:
            return pool.submit(work, [item]).result()
        except BrokenProcessPool:
            return [died(item)]


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
