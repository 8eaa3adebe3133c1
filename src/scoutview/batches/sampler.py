"""The global batch k as a function of (seed, k): the same share of every modality, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from scoutview.batches.lanes import Lanes
from scoutview.batches.selection import Numbers, Selection
from scoutview.errors import UsageError

_SPARES = (2, 4, 6)
"""Steps after which a lane shows the spares of an image: even, so that they keep out of the series next to the lane."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of one global batch: `position` counts through the whole batch, `index` through the archive.

    spares: images of the same lane that take its place, the first that is whole, should it be damaged.
    """

    step: int
    position: int
    index: int
    spares: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Draws:
    """A rank's part of a global batch. A `Draw` is made when it is asked for: a thousand of them take a millisecond.

    positions [draw]; indices [itself and its spares, draw].
    """

    step: int
    positions: Numbers
    indices: Numbers

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, number: int) -> Draw:
        index, *spares = self.indices[:, number].tolist()
        return Draw(self.step, int(self.positions[number]), index, tuple(spares))

    def __iter__(self) -> Iterator[Draw]:
        spares = map(tuple, self.indices[1:].T.tolist())
        return map(Draw, repeat(self.step), self.positions.tolist(), self.indices[0].tolist(), spares)


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

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Draws:
        """The images of global batch `step` that fall to `rank`, modality by modality."""
        part = self.share // ranks
        first, last = rank * part, (rank + 1) * part
        steps = [step + ahead for ahead in (0, *(_SPARES if self.spares else ()))]
        positions = np.arange(len(self.lanes))[:, None] * self.share + np.arange(first, last)
        indices = [lanes.at(steps, first, last) for lanes in self.lanes]
        return Draws(step, positions.ravel(), np.concatenate(indices, axis=1))

    def batches(self, first: int, last: int, rank: int = 0, ranks: int = 1) -> Iterator[Draws]:
        """The batches of steps first, ..., last - 1 for one rank."""
        for step in range(first, last):
            yield self.batch(step, rank, ranks)

    def passes(self, step: int) -> dict[str, float]:
        """How often each modality has been gone through after `step` steps."""
        return {
            name: step * self.share / len(lanes.selection)
            for name, lanes in zip(self.modalities, self.lanes, strict=True)
        }
