"""Is one model better than another on the same images? Tests by the bootstrap over patients (spec section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError
from scoutview.metrics.bootstrap import Floats, Interval, Statistic, interval, paired_draws
from scoutview.metrics.froc import Hits, froc_draws, froc_score


@dataclass(frozen=True)
class PairedTest:
    """A difference of two models, its interval, and how rarely it would be seen if there were none.

    p: two-sided, in (0, 1]; NaN where the interval has no bounds. It is below 1 - level about where the interval
    leaves 0 out, and never below 2 / (rounds + 1).
    """

    difference: Interval
    p: float

    def as_dict(self) -> dict[str, float]:
        """The interval's figures, and `p`."""
        return self.difference.as_dict() | {"p": self.p}


def paired_test(
    statistic: Statistic,
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    patients: ArrayLike,
    rounds: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedTest:
    """`paired_difference`, with the p-value of there being none. Arguments and errors as there."""
    value, draws = paired_draws(statistic, arrays_a, arrays_b, patients, rounds, seed)
    return difference_of(value, draws, np.asarray(patients), level)


def froc_test(a: Hits, b: Hits, patients: ArrayLike, rounds: int = 2000, seed: int = 0) -> PairedTest:
    """The difference of the fROC scores of two detectors on the same truths, both on the same resamples of patients.

    `patients` [image] keys. Raises `UsageError` where the images, or the numbers of truths in them, are not the same.
    """
    keys = np.asarray(patients)
    if not np.array_equal(a.truths, b.truths) or keys.shape != a.truths.shape:
        raise UsageError(
            f"two detectors on {len(a.truths)} and {len(b.truths)} images with {a.truths.sum()} and {b.truths.sum()} "
            f"truths, patient keys of shape {keys.shape}; compare them on the same images, one key per image"
        )
    draws = froc_draws(a, keys, rounds, seed).mean(axis=1) - froc_draws(b, keys, rounds, seed).mean(axis=1)
    return difference_of(froc_score(a) - froc_score(b), draws, keys)


def difference_of(value: float, draws: Floats, patients: NDArray[np.generic], level: float = 0.95) -> PairedTest:
    """The test of a difference that is `value` on all images and `draws` [round] on resamples of `patients` [image].

    p is twice the share of resamples on the rarer side of 0, which itself counts for both sides. One is
    added to both numbers, as if the data were a resample: a finite number of draws proves no p of 0 (Davison and
    Hinkley 1997, section 4.2).
    """
    difference = interval(value, draws, patients, level)
    known = draws[~np.isnan(draws)]
    if np.isnan(difference.low):
        return PairedTest(difference, float("nan"))
    rarer = int(min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0)))
    return PairedTest(difference, min(1.0, 2 * (rarer + 1) / (len(known) + 1)))
