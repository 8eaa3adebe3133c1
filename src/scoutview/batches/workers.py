"""Loader processes: they are spawned, read ahead by a bounded number of batches, and pass on what was damaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from scoutview.batches import shared
from scoutview.batches.sampler import BatchPlan, Draw, Draws
from scoutview.store import DamagedRecordError

AHEAD = 2
"""Batches that each worker has ready or is making: what a rank holds at most is its workers times these."""

Batch = TypeVar("Batch")


def batch_loader(
    read: Callable[[list[Draw]], Batch],
    plan: BatchPlan,
    first: int,
    last: int,
    *,
    rank: int,
    ranks: int,
    workers: int,
    fetch: Callable[[list[Draw]], None] | None = None,
) -> Iterator[Batch]:
    """Iterate over what `read` makes of a rank's batches of steps first, ..., last - 1, in their order.

    read: picklable; with workers it runs in processes that are spawned, so that it shares no open file or lock with
    this one. On a GPU, batches that have a method `pin_memory` come pinned. fetch: brings what a batch needs from
    afar; it runs in a thread for the next batch of a worker while that reads one.

    Raises:
        DamagedRecordError: if `read` does; the message is the same with and without workers.
    """
    loader: DataLoader[Any] = DataLoader(
        _Reader(read, fetch),
        batch_sampler=_Batches(plan, first, last, rank, ranks, max(1, workers)),
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=AHEAD if workers else None,
    )
    batches = _received(iter(loader))
    return _ahead(map(_pinned, batches)) if torch.cuda.is_available() else batches


@dataclass(frozen=True)
class _Damage:
    """Why a batch could not be made; torch would wrap an exception into the text of its traceback."""

    message: str


class _Coming:
    """The batch that is being fetched by a thread; another process starts with none."""

    def __init__(self) -> None:
        self.thread: ThreadPoolExecutor | None = None
        self.future: Future[None] | None = None

    def __reduce__(self) -> tuple[type[_Coming], tuple[()]]:
        return _Coming, ()

    def fetch(self, work: Callable[[list[Draw]], None], draws: list[Draw], following: list[Draw]) -> None:
        """Return when the batch `draws` is here, and begin with the one that follows."""
        if self.thread is None:
            self.thread = ThreadPoolExecutor(1)
        if self.future is None:
            work(draws)
        else:
            self.future.result()
        self.future = self.thread.submit(work, following) if following else None


@dataclass(frozen=True)
class _Reader(Dataset[Any], Generic[Batch]):
    """What DataLoader calls a data set that fetches whole batches."""

    read: Callable[[list[Draw]], Batch]
    fetch: Callable[[list[Draw]], None] | None
    coming: _Coming = field(default_factory=_Coming)

    def __getitems__(self, task: list[Draws]) -> Any:
        draws, following = list(task[0]), [draw for batch in task[1:] for draw in batch]
        if self.fetch is not None:
            self.coming.fetch(self.fetch, draws, following)
        try:
            return shared.send(self.read(draws))
        except DamagedRecordError as error:
            shared.take_back()
            return _Damage(str(error))


def _as_it_is(batch: Any) -> Any:
    return batch


def _received(batches: Iterator[Any]) -> Iterator[Any]:
    borrower = shared.Borrower()
    for batch in batches:
        if isinstance(batch, _Damage):
            raise DamagedRecordError(batch.message)
        yield shared.receive(batch, borrower)


def _pinned(batch: Any) -> Any:
    return batch.pin_memory() if hasattr(batch, "pin_memory") else batch


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches, of which a thread fetches the next while one is used: copies into pinned memory take time."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, end)
        while (batch := coming.result()) is not end:
            coming = thread.submit(next, batches, end)
            yield batch


@dataclass(frozen=True)
class _Batches:
    """What DataLoader calls a batch sampler: re-iterable, with a length."""

    plan: BatchPlan
    first: int
    last: int
    rank: int
    ranks: int
    workers: int

    def __iter__(self) -> Iterator[list[Draws]]:
        """Each batch with the next one of its worker, which get them in turn; the last ones alone."""
        waiting: deque[Draws] = deque()
        for batch in self.plan.batches(self.first, self.last, self.rank, self.ranks):
            waiting.append(batch)
            if len(waiting) > self.workers:
                yield [waiting.popleft(), batch]
        while waiting:
            yield [waiting.popleft()]

    def __len__(self) -> int:
        return self.last - self.first
