"""Loader processes: they are spawned, read ahead by a bounded number of batches, and pass on what was damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from scoutview.batches.sampler import BatchPlan, Draw
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
) -> Iterator[Batch]:
    """Iterate over what `read` makes of a rank's batches of steps first, ..., last - 1, in their order.

    read: picklable; with workers it runs in processes that are spawned, so that it shares no open file or lock with
    this one. On a GPU, batches that have a method `pin_memory` come pinned.

    Raises:
        DamagedRecordError: if `read` does; the message is the same with and without workers.
    """
    loader: DataLoader[Any] = DataLoader(
        _Reader(read),
        batch_sampler=_Batches(plan, first, last, rank, ranks),
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return _checked(iter(loader))


def shared_zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros; in a worker they lie where the process that waits for them reads them, without a copy."""
    if get_worker_info() is None:
        return torch.zeros(shape, dtype=dtype)
    # Fresh pages of shared memory are zero.
    count = torch.Size(shape).numel()
    storage = torch.UntypedStorage._new_shared(count * dtype.itemsize, device="cpu")
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class _Damage:
    """Why a batch could not be made; torch would wrap an exception into the text of its traceback."""

    message: str


@dataclass(frozen=True)
class _Reader(Dataset[Any], Generic[Batch]):
    """What DataLoader calls a data set that fetches whole batches."""

    read: Callable[[list[Draw]], Batch]

    def __getitems__(self, draws: list[Draw]) -> Batch | _Damage:
        try:
            return self.read(draws)
        except DamagedRecordError as error:
            return _Damage(str(error))


def _as_it_is(batch: Any) -> Any:
    return batch


def _checked(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, _Damage):
            raise DamagedRecordError(batch.message)
        yield batch


@dataclass(frozen=True)
class _Batches:
    """What DataLoader calls a batch sampler: re-iterable, with a length."""

    plan: BatchPlan
    first: int
    last: int
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.plan.batches(self.first, self.last, self.rank, self.ranks)

    def __len__(self) -> int:
        return self.last - self.first
