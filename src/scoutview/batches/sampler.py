"""The global batch k as a function of (seed, k): the same share of every modality, whatever the number of ranks.

The images of a modality, in the order of the archive, are cut into as many lanes as it has places in the batch: lane p
fills place p of every batch. A rank takes a contiguous block of places, so it reads its own part of the archive, epoch
after epoch. Within a lane, blocks of images are shuffled, and windows of some blocks are shuffled together: what a rank
reads at a time are a few stretches of the disk. An epoch of a modality with N images is N places of the batches, also
when they are no whole number of batches; lanes are then as long as they have places in it, which differs by one, and
their borders move a little from epoch to epoch. Nothing is remembered between steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scoutview.batches.selection import Numbers, Selection
from scoutview.errors import UsageError

BLOCK = 1024
"""Most images of a block, which lie one after the other in the archive."""
WINDOW = 8
"""Most blocks that are shuffled together."""
SERIES_PER_SHARE = 4
"""Slices of a series are kept out of each other's batch where there are this many series per place in it."""

_SPARES = (2, 4, 6)
"""Steps after which a lane shows the spares of an image: even, so that they keep out of the series next to the lane."""
_PAGE = 16
"""Steps that are planned together."""
_ORDER = 1 << 64
"""Keeps the random numbers of the order apart from those of the views, which use the seed alone as their key."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of one global batch: `position` counts through the whole batch, `index` through the archive.

    spares: images of the same lane that take its place, the first that is whole, should it be damaged.
    """

    step: int
    position: int
    index: int
    spares: tuple[int, ...] = ()


@dataclass(frozen=True)
class Lane:
    """A lane in one epoch: images begin, ..., begin + count - 1 of the selection, shown from step `first_step` on.

    edges: of its blocks, from 0 to count; blocks: per window, the blocks that are shuffled together; slots: where each
    window begins among the lane's steps, and its end. before, after: series that go on in the neighbouring lanes, -1
    when none does.
    """

    number: int
    epoch: int
    begin: int
    count: int
    first_step: int
    edges: Numbers
    blocks: tuple[Numbers, ...]
    slots: Numbers
    before: int
    after: int


@dataclass(frozen=True)
class Lanes:
    """The endless sequence of one modality: `share` lanes, one for each of its places in the global batch."""

    modality: int
    selection: Selection
    share: int
    seed: int

    windows: dict[int, tuple[Lane, int, Numbers]] = field(default_factory=dict, compare=False, repr=False)
    pages: dict[tuple[int, int, int], Numbers] = field(default_factory=dict, compare=False, repr=False)
    seams: dict[int, frozenset[int]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def separates_series(self) -> bool:
        """Whether slices of one series are kept out of each other's batch (else they are only spread).

        There are enough series, and none fills more than half of what is shuffled together.
        """
        shortest = len(self.selection) // self.share
        blocks = max(-(-shortest // BLOCK), 1)
        together = blocks // -(-blocks // WINDOW) * (shortest // blocks)
        enough = self.selection.series_count >= SERIES_PER_SHARE * self.share
        return enough and 2 * self.selection.longest_series <= together

    def at(self, step: int, first: int, last: int) -> Numbers:
        """Archive indices [place] at the places first, ..., last - 1 of batch `step`."""
        page, line = divmod(step, _PAGE)
        key = (page, first, last)
        if key not in self.pages:
            if len(self.pages) > 1:  # spares look ahead: keep the newer page
                self.pages.pop(next(iter(self.pages)))
            steps = (page * _PAGE, (page + 1) * _PAGE)
            self.pages[key] = np.stack([self._stretch(lane, *steps) for lane in range(first, last)], axis=1)
        found: Numbers = self.pages[key][line]
        return found

    def _stretch(self, number: int, first: int, last: int) -> Numbers:
        """What lane `number` shows at steps first, ..., last - 1."""
        parts: list[Numbers] = []
        while first < last:
            lane, window, indices = self._window_at(number, first)
            begin = first - lane.first_step - int(lane.slots[window])
            parts.append(indices[begin : begin + last - first])
            first += len(parts[-1])
        return np.concatenate(parts)

    def _window_at(self, number: int, step: int) -> tuple[Lane, int, Numbers]:
        """(lane, window, images of the window in their order) at a step; the newest of each lane is remembered."""
        epoch = (step * self.share + number) // len(self.selection)
        known = self.windows.get(number)
        lane = known[0] if known and known[0].epoch == epoch else self._lane(number, epoch)
        window = int(np.searchsorted(lane.slots, step - lane.first_step, side="right")) - 1
        if known is None or known[0] is not lane or known[1] != window:
            known = self.windows[number] = (lane, window, self._order(lane, window))
        return known

    def _lane(self, number: int, epoch: int) -> Lane:
        """Where lane `number` lies in an epoch, and the order of its blocks."""
        places = (epoch * len(self.selection), (epoch + 1) * len(self.selection))
        first_step, end_step = (-((number - place) // self.share) for place in places)
        # Of the places below x, min(x % share, p) more than (x // share) p belong to lanes before p.
        earlier = [place // self.share * number + min(place % self.share, number) for place in places]
        begin, count = earlier[1] - earlier[0], end_step - first_step
        blocks = max(-(-count // BLOCK), 1)
        edges = np.arange(blocks + 1) * count // blocks
        order = self._generator(number, epoch, 0).permutation(blocks)
        windows = tuple(np.array_split(order, -(-blocks // WINDOW)))
        sizes = np.diff(edges)
        slots = np.cumsum([0, *(int(sizes[window].sum()) for window in windows)])
        before, after = self._goes_on(begin), self._goes_on(begin + count)
        if before == after:
            before = after = -1  # the lane lies within one series, which cannot be kept apart
        return Lane(number, epoch, begin, count, first_step, edges, windows, slots, before, after)

    def _goes_on(self, border: int) -> int:
        """The series that lies on both sides of a border between lanes, or -1."""
        if not self.separates_series or not 0 < border < len(self.selection):
            return -1
        left, right = self.selection.series_of(self.selection.indices(border - 1, border + 1))
        return int(left) if left == right else -1

    def _order(self, lane: Lane, window: int) -> Numbers:
        """The images of a window, in the order in which they are shown."""
        indices = self._apart(lane, window)
        offset = lane.epoch * len(self.selection) % self.share
        if window == 0 and lane.epoch and 0 < offset <= lane.number and self.separates_series:
            # The first image shares its batch with the last images of the epoch before.
            taken = self._last_series(lane.epoch - 1, offset)
            series = self.selection.series_of(indices)
            for slot in range(0, min(len(indices), lane.count - 1), 2):
                if int(series[slot]) not in taken:
                    indices[[0, slot]] = indices[[slot, 0]]
                    break
        return indices

    def _last_series(self, epoch: int, places: int) -> frozenset[int]:
        """The series that the first lanes show in their last step of an epoch."""
        if epoch not in self.seams:
            if len(self.seams) > _PAGE:  # a page of short lanes goes through as many epochs
                self.seams.clear()
            found = set()
            for number in range(places):
                lane = self._lane(number, epoch)
                last = self._apart(lane, len(lane.blocks) - 1)[-1:]
                found.add(int(self.selection.series_of(last)[0]))
            self.seams[epoch] = frozenset(found)
        return self.seams[epoch]

    def _apart(self, lane: Lane, window: int) -> Numbers:
        """The shuffled images of a window; slices of a series that neighbouring lanes share never meet.

        In even steps a lane shows none that it shares with the lane before, in odd steps none that it shares with the
        lane behind.
        """
        parts = [
            self.selection.indices(lane.begin + int(lane.edges[block]), lane.begin + int(lane.edges[block + 1]))
            for block in lane.blocks[window]
        ]
        indices = np.concatenate(parts)
        indices = indices[self._generator(lane.number, lane.epoch, window + 1).permutation(len(indices))]
        if lane.before < 0 and lane.after < 0:
            return indices
        series = self.selection.series_of(indices)
        odd = (lane.first_step + int(lane.slots[window]) + np.arange(len(indices))) % 2 == 1
        behind, ahead = series == lane.after, series == lane.before
        free = ~behind & ~ahead
        late, early = np.flatnonzero(behind & odd), np.flatnonzero(ahead & ~odd)
        both = min(len(late), len(early))
        pairs = [
            (late[:both], early[:both]),
            (late[both:], np.flatnonzero(free & ~odd)),
            (early[both:], np.flatnonzero(free & odd)),
        ]
        for wrong, right in pairs:
            count = min(len(wrong), len(right))
            indices[wrong[:count]], indices[right[:count]] = indices[right[:count]], indices[wrong[:count]]
        return indices

    def _generator(self, lane: int, epoch: int, purpose: int) -> np.random.Generator:
        counter = [0, self.modality, epoch, (lane << 32) | purpose]
        return np.random.Generator(np.random.Philox(key=self.seed + _ORDER, counter=counter))


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a run. Positions of modality m in the global batch: [m * share, (m + 1) * share)."""

    modalities: tuple[str, ...]
    lanes: tuple[Lanes, ...]
    share: int
    spares: bool = False

    @classmethod
    def make(
        cls,
        selections: Mapping[str, Selection],
        batch_size: int,
        seed: int,
        ranks: int = 1,
        spares: bool = False,
    ) -> BatchPlan:
        """Plan batches of `batch_size` images, equal parts from each modality; with `spares` for damaged ones.

        Raises:
            UsageError: if the batch cannot be parted over modalities and ranks, or a modality has too few images.
        """
        count = len(selections)
        if batch_size % count:
            fitting = max(batch_size // count, 1) * count
            raise UsageError(
                f"batch_size {batch_size} is no multiple of the {count} modalities ({', '.join(selections)}): "
                f"use {fitting} or {fitting + count}"
            )
        share = batch_size // count
        if share % ranks:
            fitting_ranks = [str(number) for number in range(1, share + 1) if share % number == 0]
            raise UsageError(
                f"{ranks} ranks cannot share {share} images of each modality equally: "
                f"use {', '.join(fitting_ranks)} ranks, or another batch_size"
            )
        for name, selection in selections.items():
            if len(selection) < share:
                raise UsageError(
                    f"modality {name} has {len(selection)} images, its share of the batch is {share}: use batch_size "
                    f"{len(selection) * count} or less, or take in more {name}"
                )
        lanes = tuple(Lanes(number, selection, share, seed) for number, selection in enumerate(selections.values()))
        return cls(tuple(selections), lanes, share, spares)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> list[Draw]:
        """The images of global batch `step` that fall to `rank`, modality by modality."""
        part = self.share // ranks
        first, last = rank * part, (rank + 1) * part
        draws = []
        for number, lanes in enumerate(self.lanes):
            columns = [lanes.at(step + ahead, first, last).tolist() for ahead in (0, *(_SPARES if self.spares else ()))]
            for place, (index, *spares) in enumerate(zip(*columns, strict=True)):
                draws.append(Draw(step, number * self.share + first + place, index, tuple(spares)))
        return draws

    def batches(self, first: int, last: int, rank: int = 0, ranks: int = 1) -> Iterator[list[Draw]]:
        """The batches of steps first, ..., last - 1 for one rank."""
        for step in range(first, last):
            yield self.batch(step, rank, ranks)

    def passes(self, step: int) -> dict[str, float]:
        """How often each modality has been gone through after `step` steps."""
        return {
            name: step * self.share / len(lanes.selection)
            for name, lanes in zip(self.modalities, self.lanes, strict=True)
        }
