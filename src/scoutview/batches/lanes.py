"""What each place of the batches shows: lanes through the images of a modality, whatever the number of ranks.

The images of a modality, in the order of the archive, are cut into as many lanes as it has places in the batch: lane p
fills place p of every batch. A rank takes a contiguous block of places, so it reads its own part of the archive, epoch
after epoch. Within a lane, blocks of images are shuffled, and windows of some blocks are shuffled together: what a rank
reads at a time are a few stretches of the disk. An epoch of a modality with N images is N places of the batches, also
when they are no whole number of batches; lanes are then as long as they have places in it, which differs by one, and
their borders move a little from epoch to epoch. What is remembered between steps only saves work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from scoutview.batches.selection import Numbers, Selection

BLOCK = 1024
"""Most images of a block, which lie one after the other in the archive."""
WINDOW = 8
"""Most blocks that are shuffled together."""
SERIES_PER_SHARE = 4
"""Slices of a series are kept out of each other's batch where there are this many series per place in it."""

_PAGE = 32
"""Steps of a lane that are planned together; the lanes take turns, so that none of the steps waits for all of them."""
_ORDER = 1 << 64
"""Keeps the random numbers of the order apart from those of the views, which use the seed alone as their key."""


@dataclass(frozen=True)
class Lane:
    """A lane in one epoch: images begin, ..., begin + count - 1 of the selection, shown from step `first_step` on.

    edges: of its blocks, from 0 to count; blocks: per window, the blocks that are shuffled together; slots: where each
    window begins among the lane's steps, and its end. before, after: images with archive indices below `before` are of
    a series that the lane before shows, too, those from `after` on of one that the lane behind shows.
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


class Window(NamedTuple):
    """The images of a lane that are shuffled together, in the order in which they are shown from step `first` on."""

    lane: Lane
    first: int
    images: Numbers


@dataclass(frozen=True)
class Lanes:
    """The endless sequence of one modality: `share` lanes, one for each of its places in the global batch."""

    modality: int
    selection: Selection
    share: int
    seed: int

    windows: dict[int, Window] = field(default_factory=dict, compare=False, repr=False)

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

    @cached_property
    def _pages(self) -> tuple[Numbers, Numbers]:
        """(images [lane, even or odd page, step of the page], number of the page [lane, even or odd page])."""
        return np.zeros((self.share, 2, _PAGE), dtype=np.int64), np.full((self.share, 2), -1)

    def at(self, steps: Sequence[int], first: int, last: int) -> Numbers:
        """Archive indices [step, place] at the places first, ..., last - 1 of some batches, within _PAGE of each other.

        Two pages of each lane are remembered.
        """
        images, held = self._pages
        lanes = np.arange(first, last)
        page, line = np.divmod(np.array(steps)[:, None] + lanes, _PAGE)
        stale = held[lanes, page % 2] != page
        for lane, number in dict.fromkeys(zip(stale.nonzero()[1].tolist(), page[stale].tolist(), strict=True)):
            self._turn(first + lane, number)
        found: Numbers = images[lanes, page % 2, line]
        return found

    def _turn(self, number: int, page: int) -> None:
        """Plan a page of a lane. Page 0 of lane p has p steps that do not exist."""
        images, held = self._pages
        begin, end = page * _PAGE - number, (page + 1) * _PAGE - number
        step = max(begin, 0)
        while step < end:
            window = self._window_at(number, step)
            part = window.images[step - window.first : end - window.first]
            images[number, page % 2, step - begin : step - begin + len(part)] = part
            step += len(part)
        held[number, page % 2] = page

    def _window_at(self, number: int, step: int) -> Window:
        """The window of a lane at a step; the newest of each lane is remembered."""
        known = self.windows.get(number)
        if known is None or not known.first <= step < known.first + len(known.images):
            epoch = (step * self.share + number) // len(self.selection)
            lane = known.lane if known and known.lane.epoch == epoch else self._lane(number, epoch)
            window = int(np.searchsorted(lane.slots, step - lane.first_step, side="right")) - 1
            known = Window(lane, lane.first_step + int(lane.slots[window]), self._order(lane, window))
            self.windows[number] = known
        return known

    def _lane(self, number: int, epoch: int) -> Lane:
        """Where lane `number` lies in an epoch, and the order of its blocks."""
        places = (epoch * len(self.selection), (epoch + 1) * len(self.selection))
        first_step, end_step = (-((number - place) // self.share) for place in places)
        begin, count = self._begin(number, epoch), end_step - first_step
        blocks = max(-(-count // BLOCK), 1)
        edges = np.arange(blocks + 1) * count // blocks
        order = self._permutation(blocks, number, epoch, 0)
        windows = tuple(np.array_split(order, -(-blocks // WINDOW)))
        sizes = np.diff(edges)
        slots = np.cumsum([0, *(int(sizes[window].sum()) for window in windows)])
        return Lane(number, epoch, begin, count, first_step, edges, windows, slots, *self._shared(begin, begin + count))

    def _begin(self, number: int, epoch: int) -> int:
        """The first image of lane `number` in an epoch; the lane before ends there."""
        places = (epoch * len(self.selection), (epoch + 1) * len(self.selection))
        # Of the places below x, min(x % share, p) more than (x // share) p belong to lanes before p.
        earlier = [place // self.share * number + min(place % self.share, number) for place in places]
        return earlier[1] - earlier[0]

    def _shared(self, begin: int, end: int) -> tuple[int, int]:
        """`before` and `after` of a lane of the images begin, ..., end - 1, see `Lane`."""
        before, after = 0, sys.maxsize
        if not self.separates_series:
            return before, after
        selection, longest = self.selection, self.selection.longest_series
        if begin > 0:
            images = selection.indices(begin - 1, min(begin + longest, end))
            series = selection.series_of(images)
            if series[0] == series[1]:
                before = int(images[np.searchsorted(series, series[0], side="right") - 1]) + 1
        if end < len(selection):
            images = selection.indices(max(end - longest, begin), end + 1)
            series = selection.series_of(images)
            if series[-2] == series[-1]:
                after = int(images[np.searchsorted(series, series[-1])])
        # A lane that lies within one series cannot be kept apart.
        return (before, after) if before <= after else (0, sys.maxsize)

    def _order(self, lane: Lane, window: int) -> Numbers:
        """The images of a window, in the order in which they are shown."""
        indices = self._apart(lane, window)
        if window == 0 and (taken := self._just_shown(lane)):
            # The first image shares its batch with the last images of the epoch before.
            for slot in range(0, min(len(indices), lane.count - 1), 2):
                if int(self.selection.series_of(indices[slot : slot + 1])[0]) not in taken:
                    indices[[0, slot]] = indices[[slot, 0]]
                    break
        return indices

    def _just_shown(self, lane: Lane) -> set[int]:
        """Series, of those that a lane may hold, that end the epoch before in the batch in which the lane begins."""
        found: set[int] = set()
        number = lane.epoch * len(self.selection) % self.share  # the lane in which the epoch begins
        if number > lane.number or not self.separates_series:
            return found
        while number and self._begin(number, lane.epoch - 1) > lane.begin - self.selection.longest_series:
            number -= 1
            last = self._lane(number, lane.epoch - 1)
            image = self._apart(last, len(last.blocks) - 1)[-1:]
            found.add(int(self.selection.series_of(image)[0]))
        return found

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
        indices = indices[self._permutation(len(indices), lane.number, lane.epoch, window + 1)]
        behind, ahead = indices >= lane.after, indices < lane.before
        free = ~(behind | ahead)
        if free.all():
            return indices
        odd = (lane.first_step + int(lane.slots[window]) + np.arange(len(indices))) % 2 == 1
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

    @cached_property
    def _generator(self) -> tuple[np.random.Generator, dict[str, Any]]:
        """(a generator, its state before the first number)."""
        bits = np.random.Philox(key=self.seed + _ORDER)
        return np.random.Generator(bits), dict(bits.state)

    def _permutation(self, count: int, lane: int, epoch: int, purpose: int) -> Numbers:
        """An order that depends on seed, modality and the arguments alone."""
        generator, state = self._generator  # a new one for each order would cost ten times as much
        state["state"]["counter"][:] = (0, self.modality, epoch, (lane << 32) | purpose)
        generator.bit_generator.state = state
        return generator.permutation(count)
