"""The global batch k as a function of (seed, k): a fixed share of every modality, whatever the number of ranks."""

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
    """The batches of a run. shares: images of each modality in a global batch, in which they follow each other."""

    modalities: tuple[str, ...]
    lanes: tuple[Lanes, ...]
    shares: tuple[int, ...]
    spares: bool = False

    @classmethod
    def make(
        cls,
        selections: Mapping[str, Selection],
        batch_size: int,
        seed: int,
        ranks: int = 1,
        spares: bool = False,
        proportional: bool = False,
    ) -> BatchPlan:
        """Plan batches of `batch_size` images, equal parts from each modality; with `spares` for damaged ones.

        proportional: parts in proportion to the images of each modality instead (see `modality_shares`).

        Raises:
            UsageError: if the batch cannot be parted over modalities and ranks, or a modality has too few images.
        """
        shares = modality_shares({name: len(part) for name, part in selections.items()}, batch_size, proportional)
        odd = {name: share for name, share in shares.items() if share % ranks}
        if odd:
            fitting = [str(n) for n in range(1, min(shares.values()) + 1) if not any(s % n for s in shares.values())]
            each = next(iter(odd.values())) if not proportional else ", ".join(map(str, shares.values()))
            raise UsageError(
                f"{ranks} ranks cannot share {each} images of each modality equally: "
                f"use {', '.join(fitting)} ranks, or another batch_size"
            )
        for name, selection in selections.items():
            if len(selection) < shares[name]:
                without = f", leave it out with --where \"modality <> '{name}'\"" if len(selections) > 1 else ""
                raise UsageError(
                    f"modality {name} has {len(selection)} images, its share of the batch is {shares[name]}: use "
                    f"batch_size {len(selection) * len(selections)} or less{without}, or take in more {name}"
                )
        lanes = tuple(Lanes(number, part, shares[name], seed) for number, (name, part) in enumerate(selections.items()))
        return cls(tuple(selections), lanes, tuple(shares.values()), spares)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Draws:
        """The images of global batch `step` that fall to `rank`, modality by modality."""
        steps = [step + ahead for ahead in (0, *(_SPARES if self.spares else ()))]
        positions, indices, start = [], [], 0
        for lanes, share in zip(self.lanes, self.shares, strict=True):
            first, last = share // ranks * rank, share // ranks * (rank + 1)
            positions.append(np.arange(start + first, start + last))
            indices.append(lanes.at(steps, first, last))
            start += share
        return Draws(step, np.concatenate(positions), np.concatenate(indices, axis=1))

    def batches(self, first: int, last: int, rank: int = 0, ranks: int = 1) -> Iterator[Draws]:
        """The batches of steps first, ..., last - 1 for one rank."""
        for step in range(first, last):
            yield self.batch(step, rank, ranks)

    def passes(self, step: int) -> dict[str, float]:
        """How often each modality has been gone through after `step` steps."""
        return {
            name: step * share / len(lanes.selection)
            for name, lanes, share in zip(self.modalities, self.lanes, self.shares, strict=True)
        }


def modality_shares(images: Mapping[str, int], batch_size: int, proportional: bool) -> dict[str, int]:
    """Images of each modality in a global batch.

    images: how many there are. Equal shares (spec section 2), or in proportion to the images, by largest remainders,
    at least one.

    Raises:
        UsageError: if equal shares are asked for and the batch is no multiple of the modalities, or it is smaller.
    """
    count = len(images)
    if batch_size < count or (batch_size % count and not proportional):
        fitting = max(batch_size // count, 1) * count
        raise UsageError(
            f"batch_size {batch_size} is no multiple of the {count} modalities ({', '.join(images)}): "
            f"use {fitting} or {fitting + count}"
        )
    if not proportional:
        return dict.fromkeys(images, batch_size // count)
    spare = batch_size - count  # one is for each
    exact = {name: spare * number / sum(images.values()) for name, number in images.items()}
    shares = {name: 1 + int(value) for name, value in exact.items()}
    ranked = sorted(images, key=lambda name: int(exact[name]) - exact[name])
    for name in ranked[: batch_size - sum(shares.values())]:
        shares[name] += 1
    return shares
