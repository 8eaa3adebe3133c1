"""A figure that is a mean over seeds, with its bootstrap: what every table of a study is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoutview.metrics.bootstrap import Interval, interval

ROUNDS = 2000
ALL = "mean over tasks"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """by_seed [seed] on all test images, draws [round] of the bootstrap of their mean.

    A round draws test patients with replacement, and seeds with replacement, the same ones for every encoder.
    """

    by_seed: Floats
    draws: Floats

    def interval(self) -> Interval:
        """95% over patients and seeds."""
        return interval(float(self.by_seed.mean()), self.draws, np.arange(2))

    def minus(self, other: Drawn) -> Drawn:
        """The paired difference."""
        return Drawn(self.by_seed - other.by_seed, self.draws - other.draws)


def over_seeds(by_seed: Floats, draws: Floats, task: int) -> Drawn:
    """From draws [seed, round] over patients to those over patients and seeds; `task` numbers the task."""
    chosen = np.random.default_rng(1000 + task).integers(len(by_seed), size=(len(by_seed), draws.shape[1]))
    return Drawn(by_seed, np.take_along_axis(draws, chosen, 0).mean(0))


def over_tasks(figures: Sequence[Drawn]) -> Interval:
    """Of the mean over tasks; those of the same test cases have drawn the same patients, others independently."""
    value = float(np.mean([figure.by_seed.mean() for figure in figures]))
    return interval(value, np.mean([figure.draws for figure in figures], axis=0), np.arange(2))
