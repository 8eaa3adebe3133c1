"""The global batch k as a function of (seed, k): the same share of every modality, whatever the number of ranks.

Each modality runs through its images in an order of its own, epoch after epoch: every image once per epoch. A
rank takes a contiguous block of each modality's positions. Nothing is remembered between steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scoutview.errors import UsageError

SERIES_PER_SHARE = 4
"""Slices of a series are kept out of each other's batch where there are this many series per place in it."""

_ORDER = 1 << 64
"""Keeps the random numbers of the order apart from those of the views, which use the seed alone as their key."""


@dataclass(frozen=True)
class Draw:
    """One image of one global batch: `position` counts through the whole batch, `index` through the archive."""

    step: int
    position: int
    index: int


@dataclass(frozen=True)
class ModalityOrder:
    """The endless sequence of one modality.

    indices: the archive's indices; series: the series key of each; share: places in the global batch.
    """

    modality: int
    indices: tuple[int, ...]
    series: tuple[str, ...]
    share: int
    seed: int

    recent: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def separates_series(self) -> bool:
        """Whether slices of one series never meet in a batch (else they are only spread over the epoch)."""
        return len(set(self.series)) >= SERIES_PER_SHARE * self.share

    def at(self, position: int) -> int:
        """The archive index at a position of the endless sequence."""
        epoch, place = divmod(position, len(self.indices))
        if epoch not in self.recent:
            if len(self.recent) > 1:
                self.recent.clear()
            self.recent[epoch] = _epoch_order(self, epoch)
        return self.indices[int(self.recent[epoch][place])]


def _epoch_order(order: ModalityOrder, epoch: int) -> npt.NDArray[np.int64]:
    """A permutation of the modality's images [place]; batches may straddle two epochs."""
    spread = _spread(order, epoch)
    if not order.separates_series or len(set(order.series)) == len(order.series):
        return spread
    straddling = set()
    offset = -epoch * len(order.indices) % order.share
    if epoch > 0 and offset:
        before = _separated(order, epoch - 1, set())
        straddling = {order.series[index] for index in before[offset - order.share :]}
    return _separated(order, epoch, straddling)


def _spread(order: ModalityOrder, epoch: int) -> npt.NDArray[np.int64]:
    """Random order in which the n images of a series lie about 1/n of the epoch apart."""
    generator = np.random.Generator(np.random.Philox(key=order.seed + _ORDER, counter=[0, order.modality, epoch, 0]))
    shuffled = generator.permutation(len(order.indices))
    names = np.array(order.series)[shuffled]
    _, series, counts = np.unique(names, return_inverse=True, return_counts=True)
    start = generator.random(len(counts))
    by_series = np.argsort(series, kind="stable")
    rank = np.empty(len(series), dtype=np.int64)
    rank[by_series] = np.arange(len(series)) - np.repeat(np.cumsum(counts) - counts, counts)
    return shuffled[np.argsort((rank + start[series]) / counts[series], kind="stable")]


def _separated(order: ModalityOrder, epoch: int, straddling: set[str]) -> npt.NDArray[np.int64]:
    """The spread order with collisions swapped away. `straddling`: series already in the first, partial batch."""
    places = _spread(order, epoch)
    first = -epoch * len(places) % order.share
    starts = [*([0] if first else []), *range(first, len(places), order.share)]
    bounds = list(zip(starts, [*starts[1:], len(places)], strict=True))
    present = [Counter(order.series[index] for index in places[low:high]) for low, high in bounds]
    if first:
        present[0].update(straddling)
    batch_of = np.repeat(np.arange(len(bounds)), [high - low for low, high in bounds])
    for batch, (low, high) in enumerate(bounds):
        for place in range(low, high):
            name = order.series[places[place]]
            if present[batch][name] > 1:
                # Look onward first: what lies before is settled and only serves the end of an epoch.
                for other in [*range(high, len(places)), *range(low - 1, -1, -1)]:
                    stranger, elsewhere = order.series[places[other]], int(batch_of[other])
                    if not present[batch][stranger] and not present[elsewhere][name]:
                        places[[place, other]] = places[[other, place]]
                        present[batch][name] -= 1
                        present[batch][stranger] += 1
                        present[elsewhere][stranger] -= 1
                        present[elsewhere][name] += 1
                        break
    return places


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a run. Positions of modality m in the global batch: [m * share, (m + 1) * share)."""

    modalities: tuple[str, ...]
    orders: tuple[ModalityOrder, ...]
    share: int

    @classmethod
    def make(
        cls, images: Mapping[str, Sequence[int]], series: Sequence[str], batch_size: int, seed: int, ranks: int = 1
    ) -> BatchPlan:
        """Plan batches of `batch_size` images, equal parts from each modality of `images` (name -> indices).

        Raises:
            UsageError: if the batch cannot be parted over modalities and ranks, or a modality has too few images.
        """
        count = len(images)
        if batch_size % count:
            fitting = max(batch_size // count, 1) * count
            raise UsageError(
                f"batch_size {batch_size} is no multiple of the {count} modalities ({', '.join(images)}): "
                f"use {fitting} or {fitting + count}"
            )
        share = batch_size // count
        if share % ranks:
            fitting_ranks = [str(number) for number in range(1, share + 1) if share % number == 0]
            raise UsageError(
                f"{ranks} ranks cannot share {share} images of each modality equally: "
                f"use {', '.join(fitting_ranks)} ranks, or another batch_size"
            )
        for name, indices in images.items():
            if len(indices) < share:
                raise UsageError(
                    f"modality {name} has {len(indices)} images, its share of the batch is {share}: use batch_size "
                    f"{len(indices) * count} or less, or take in more {name}"
                )
        orders = tuple(
            ModalityOrder(number, tuple(indices), tuple(series[index] for index in indices), share, seed)
            for number, indices in enumerate(images.values())
        )
        return cls(tuple(images), orders, share)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> list[Draw]:
        """The images of global batch `step` that fall to `rank`, modality by modality."""
        part = self.share // ranks
        return [
            Draw(step, number * self.share + place, order.at(step * self.share + place))
            for number, order in enumerate(self.orders)
            for place in range(rank * part, (rank + 1) * part)
        ]

    def batches(self, first: int, last: int, rank: int = 0, ranks: int = 1) -> Iterator[list[Draw]]:
        """The batches of steps first, ..., last - 1 for one rank."""
        for step in range(first, last):
            yield self.batch(step, rank, ranks)

    def passes(self, step: int) -> dict[str, float]:
        """How often each modality has been gone through after `step` steps."""
        return {
            name: step * self.share / len(order.indices)
            for name, order in zip(self.modalities, self.orders, strict=True)
        }
