"""Worker processes of this machine: results in order, whatever happens to a worker."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Protocol, Self, TypeVar

from scoutview.errors import RunError

ATTEMPTS = 3
"""How often an item may take its process down, since an operator, or a lack of memory, may have killed that."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spread(Protocol):
    """`work` on chunks of items by some number of workers; results in the order of the items.

    died: the result of an item that kills the worker which works on it, also alone.
    """

    def __call__(
        self,
        items: Sequence[Item],
        work: Callable[[list[Item]], list[Result]],
        died: Callable[[Item], Result],
        chunk: int,
    ) -> Iterator[Result]:
        """Yield one result per item. At most two tasks per worker are under way, so that memory is bounded."""
        ...


@contextmanager
def on_this_machine(workers: int) -> Iterator[Spread]:
    """One worker works in this process; 0 are as many processes as there are cores."""
    if workers == 1:
        yield here
        return
    with Processes(workers or available_cores()) as processes:
        yield processes


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def here(
    items: Sequence[Item], work: Callable[[list[Item]], list[Result]], died: Callable[[Item], Result], chunk: int
) -> Iterator[Result]:
    """In this process, one item at a time."""
    for item in items:
        yield from work([item])


def chunks_of(items: Sequence[Item], chunk: int) -> deque[list[Item]]:
    """The items in tasks of `chunk`."""
    return deque(list(items[begin : begin + chunk]) for begin in range(0, len(items), chunk))


class Processes:
    """A number of processes, which stay for the next call; use as a context manager.

    When one dies, the items of its task are worked on one at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool = None

    def __call__(
        self,
        items: Sequence[Item],
        work: Callable[[list[Item]], list[Result]],
        died: Callable[[Item], Result],
        chunk: int,
    ) -> Iterator[Result]:
        """See `Spread`.

        Raises:
            RunError: if no worker process can start.
        """
        waiting = chunks_of(items, chunk)
        if not waiting:
            return
        under_way: deque[tuple[list[Item], Future[list[Result]]]] = deque()
        try:
            while waiting or under_way:
                try:
                    while waiting and len(under_way) < 2 * self.workers:
                        self.pool = self.pool or _pool(self.workers)
                        under_way.append((waiting[0], self.pool.submit(work, waiting[0])))
                        waiting.popleft()
                    done = under_way[0][1].result()
                except BrokenProcessPool:
                    # Every task under way is lost, and any may be the cause: the first is worked on with care, the
                    # others go to a new pool.
                    lost = [task for task, _ in under_way] or [waiting.popleft()]
                    under_way.clear()
                    self.close()
                    check_processes_start()
                    waiting.extendleft(reversed(lost[1:]))
                    yield from _one_by_one(lost[0], work, died)
                    continue
                under_way.popleft()
                yield from done
        finally:
            for _, future in under_way:
                future.cancel()


def check_processes_start() -> None:
    """Whether a worker process can do anything at all, before an item is blamed for the death of one.

    Raises:
        RunError: if a process dies that has nothing to do.
    """
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise RunError(
                "the worker processes die as they start, before they read a file: a script that calls ingest must do "
                'so below `if __name__ == "__main__":`, because every worker imports it; or read with workers=1'
            ) from error


def _one_by_one(
    items: Sequence[Item], work: Callable[[list[Item]], list[Result]], died: Callable[[Item], Result]
) -> Iterator[Result]:
    """Work on items one at a time in one process, so that it is known which of them it dies of."""
    pool = _pool(1)
    try:
        for item in items:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    yield from pool.submit(work, [item]).result()
                    break
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = _pool(1)
                    if attempt == ATTEMPTS:
                        yield died(item)
    finally:
        pool.shutdown()


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Without this a worker waits for ever for a driver that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
