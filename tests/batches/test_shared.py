"""Memory of batches is used again, but never while anybody can still see it."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scoutview.batches import Archive, BatchPlan, Draw
from scoutview.batches.shared import batch_memory
from scoutview.batches.workers import _ahead, batch_loader
from scoutview.store import DamagedRecordError


@dataclass(frozen=True)
class Inner:
    values: Tensor


@dataclass(frozen=True)
class Batch:
    inner: Inner
    small: Tensor
    step: int


def made(sizes: tuple[int, ...], draws: list[Draw]) -> Batch:
    """A batch whose content and size follow from its step; step 7 is damaged after memory was taken."""
    step = draws[0].step
    values = batch_memory(sizes[step % len(sizes)], 5, dtype=torch.int16)
    values[:] = step
    if step == 7:
        raise DamagedRecordError("image 7 is damaged")
    return Batch(Inner(values), torch.tensor([draw.index for draw in draws]), step)


def plan_of(store: Path) -> BatchPlan:
    return BatchPlan.make(Archive.open([store]).select(), 8, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_kept_stay_as_they_were(small_store: Path, workers: int) -> None:
    plan = plan_of(small_store)
    read = partial(made, (4000, 90_000, 300))
    kept, views = [], []
    for batch in batch_loader(read, plan, 8, 40, rank=0, ranks=1, workers=workers):
        if batch.step % 3 == 0:
            kept.append(batch)
        if batch.step % 5 == 0:
            views.append((batch.step, batch.inner.values[10:20, 2]))
        assert batch.small.tolist() == [draw.index for draw in plan.batch(batch.step)]
    assert [batch.step for batch in kept] == [step for step in range(8, 40) if step % 3 == 0]
    for batch in kept:
        assert batch.inner.values.shape == ((4000, 90_000, 300)[batch.step % 3], 5)
        assert (batch.inner.values == batch.step).all()
    assert len(views) == 6
    assert all((view == step).all() for step, view in views)


@pytest.mark.parametrize("workers", [0, 1])
def test_memory_is_used_again(small_store: Path, workers: int) -> None:
    addresses = set()
    for batch in batch_loader(partial(made, (50_000,)), plan_of(small_store), 8, 38, rank=0, ranks=1, workers=workers):
        addresses.add(batch.inner.values.data_ptr())
        del batch
    assert len(addresses) <= 6


def test_memory_is_not_used_while_a_view_of_it_lives() -> None:
    first = batch_memory(1000, 1000)
    address, view = first.data_ptr(), first[3, :5]
    del first
    gc.collect()
    assert batch_memory(1000, 1000).data_ptr() != address
    view[:] = 7
    assert view.tolist() == [7] * 5
    del view
    gc.collect()
    assert address in {tensor.data_ptr() for tensor in [batch_memory(1000, 1000) for _ in range(4)]}


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_said_in_one_line_after_the_batches_before_it(small_store: Path, workers: int) -> None:
    batches = batch_loader(partial(made, (100,)), plan_of(small_store), 5, 12, rank=0, ranks=1, workers=workers)
    assert [next(batches).step, next(batches).step] == [5, 6]
    with pytest.raises(DamagedRecordError) as caught:
        next(batches)
    assert str(caught.value) == "image 7 is damaged"


def test_fetching_ahead_changes_neither_order_nor_errors() -> None:
    assert list(_ahead(iter(range(20)))) == list(range(20))

    def failing() -> object:
        yield 1
        raise DamagedRecordError("no")

    batches = _ahead(failing())
    assert next(batches) == 1
    with pytest.raises(DamagedRecordError, match="no"):
        next(batches)
