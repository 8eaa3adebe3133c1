"""Percentile bootstrap over patients (spec section 7).

Images of one patient are alike, so the patient is the unit that a new study would draw again. A resample
draws as many patients as there are, with replacement, and takes all images of each as often as it was drawn.
Resamples on which the statistic is NaN (a class went missing) are left out of the interval and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError

Floats = NDArray[np.float64]
Statistic = Callable[..., float]


@dataclass(frozen=True)
class Interval:
    """A figure on all images, and the interval of its bootstrap distribution.

    `low` and `high` are NaN when there are fewer than two patients or when no resample had a value: one
    patient says nothing about the next. `ignored` counts the resamples without a value.
    """

    value: float
    low: float
    high: float
    ignored: int = 0

    def as_dict(self) -> dict[str, float]:
        """`value`, `low`, `high`, and `ignored_resamples` where there are any."""
        figures: dict[str, float] = {"value": self.value, "low": self.low, "high": self.high}
        return figures | ({"ignored_resamples": self.ignored} if self.ignored else {})


def patient_bootstrap(
    statistic: Statistic,
    *arrays: ArrayLike,
    patients: ArrayLike,
    rounds: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of `statistic(*arrays)` under resampling of patients.

    Each of `arrays` has shape [n, ...]; `patients` [n] are keys; `statistic` receives the resampled arrays,
    of varying length, and must not depend on the order of images. The same seed draws the same patients for
    every statistic. Raises `UsageError` for differing lengths, no images, or a level outside (0, 1).
    """
    columns = _columns(arrays, patients)
    keys = np.asarray(patients)
    draws = [statistic(*(column[rows] for column in columns)) for rows in _resamples(keys, rounds, seed)]
    return interval(statistic(*columns), np.asarray(draws, dtype=np.float64), keys, level)


def paired_difference(
    statistic: Statistic,
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    patients: ArrayLike,
    rounds: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of `statistic(*arrays_a) - statistic(*arrays_b)`, both on the same resamples of patients.

    For two models scored on the same images: what makes a patient hard for both cancels, so the interval is
    narrower than two separate ones suggest. Arguments and errors as in `patient_bootstrap`.
    """
    value, draws = paired_draws(statistic, arrays_a, arrays_b, patients, rounds, seed)
    return interval(value, draws, np.asarray(patients), level)


def paired_draws(
    statistic: Statistic,
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    patients: ArrayLike,
    rounds: int,
    seed: int,
) -> tuple[float, Floats]:
    """The difference of the statistics on all images, and on each resample [rounds]."""
    a, b = _columns(arrays_a, patients), _columns(arrays_b, patients)
    draws = [
        statistic(*(column[rows] for column in a)) - statistic(*(column[rows] for column in b))
        for rows in _resamples(np.asarray(patients), rounds, seed)
    ]
    return statistic(*a) - statistic(*b), np.asarray(draws, dtype=np.float64)


def patient_weights(patients: ArrayLike, rounds: int, seed: int, at_once: int = 1 << 18) -> Iterator[Floats]:
    """The resamples as counts: blocks [some rounds, n] of how often each image counts, `rounds` rows in all.

    For statistics that take weights. A block holds at most about `at_once` numbers (8 bytes each), so that
    the memory stays bounded and what is at work fits the processor's cache; the draws do not depend on it.
    """
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    number = int(patient.max()) + 1
    generator = np.random.default_rng(seed)
    block = max(1, at_once // len(patient))
    for begin in range(0, rounds, block):
        drawn = generator.integers(number, size=(min(block, rounds - begin), number))
        counts = np.stack([np.bincount(row, minlength=number) for row in drawn])
        yield counts[:, patient].astype(np.float64)


def interval(value: float, draws: Floats, patients: NDArray[Any], level: float = 0.95) -> Interval:
    """The central `level` of `draws` [rounds] around `value`; NaN draws are left out and counted."""
    if not 0 < level < 1:
        raise UsageError(f"level {level} is not between 0 and 1; 0.95 is usual")
    known = draws[~np.isnan(draws)]
    if not len(known) or (patients == patients[0]).all():
        return Interval(float(value), float("nan"), float("nan"), len(draws) - len(known))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high), len(draws) - len(known))


def _resamples(patients: NDArray[Any], rounds: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Row numbers of each resample."""
    rows = np.arange(len(patients))
    for block in patient_weights(patients, rounds, seed):
        for counts in block.astype(np.intp):
            yield np.repeat(rows, counts)


def _columns(arrays: Sequence[ArrayLike], patients: ArrayLike) -> list[NDArray[Any]]:
    columns = [np.asarray(array) for array in arrays]
    lengths = [len(column) for column in columns]
    keys = np.asarray(patients)
    if keys.ndim != 1 or not len(keys) or any(length != len(keys) for length in lengths):
        raise UsageError(
            f"arrays of {lengths} images and patient keys of shape {keys.shape}; "
            "give one key per image and at least one image"
        )
    return columns
