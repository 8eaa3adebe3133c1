"""How much a model's output moves when the image is changed in ways that should not matter (spec section 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError
from scoutview.metrics.auc import checked, weighted_areas
from scoutview.metrics.bootstrap import Interval, interval, patient_weights

Floats = NDArray[np.float64]
SMALLEST = 0.001
"""The least probability that a change is relative to."""
_EDGE = 1e-6  # a probability of exactly 0 or 1 has no logit


def relative_changes(probabilities: ArrayLike, transformed: ArrayLike) -> Floats:
    """d = (p_t - p_0) / max(p_0, 0.001): [case, transform].

    `probabilities` p_0 [case] of the images as they are, `transformed` p_t [case, transform] of the same images
    under the same transforms for every model; both in [0, 1]. Raises `UsageError` for other shapes or values.
    """
    before, after = _checked(probabilities, transformed)
    changes: Floats = (after - before[:, None]) / np.maximum(before, SMALLEST)[:, None]
    return changes


def box_plot(values: ArrayLike) -> dict[str, float]:
    """The numbers of a box plot: `low`, `first_quartile`, `median`, `third_quartile`, `high`, `outside`.

    The whiskers end at the last values within 1.5 times the distance of the quartiles (Tukey 1977); `outside` is
    how many values lie beyond. `values` of any shape, at least one.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    if not flat.size:
        raise UsageError("a box plot of no values; give at least one")
    first, median, third = np.quantile(flat, [0.25, 0.5, 0.75])
    reach = 1.5 * (third - first)
    inside = flat[(flat >= first - reach) & (flat <= third + reach)]
    # A whisker never ends within the box, where no value lies between the quartile and its reach.
    return {
        "low": float(min(inside.min(), first)),
        "first_quartile": float(first),
        "median": float(median),
        "third_quartile": float(third),
        "high": float(max(inside.max(), third)),
        "outside": flat.size - inside.size,
    }


def evaluate_robustness(
    probabilities: ArrayLike,
    transformed: ArrayLike,
    positives: ArrayLike,
    patients: ArrayLike,
    rounds: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The robustness of one class, with 95% intervals over patients.

    `probabilities` [case] and `transformed` [case, transform] in [0, 1], `positives` [case], `patients` [case] keys.
    Returns `median_change` (of |d|), `changes` (the box plot of d), `median_logit_change` (of |logit p_t - logit p_0|),
    `auc` of the images as they are, `auc_transformed` (mean over the transforms), `cases` and `transforms`. A model
    that always says the same has d = 0, so the areas belong beside it. Raises `UsageError` for other shapes or values.
    """
    figures = robustness_draws(probabilities, transformed, positives, patients, rounds, seed)
    changes = relative_changes(probabilities, transformed)
    return {name: _spread(each, np.asarray(patients)).as_dict() for name, each in figures.items()} | {
        "changes": box_plot(changes),
        "cases": len(changes),
        "transforms": changes.shape[1],
    }


def robustness_draws(
    probabilities: ArrayLike,
    transformed: ArrayLike,
    positives: ArrayLike,
    patients: ArrayLike,
    rounds: int = 2000,
    seed: int = 0,
) -> dict[str, Floats]:
    """The four figures of `evaluate_robustness`, each [1 + round]: of all cases, then of each resample of patients.

    One seed draws the same patients for every model, so the differences of two models' figures are paired. Arguments
    and errors as there.
    """
    before, after = _checked(probabilities, transformed)
    _, labels = checked(before, positives)
    keys = np.asarray(patients)
    if keys.shape != before.shape:
        raise UsageError(f"{len(before)} cases and patient keys of shape {keys.shape}; give one key per case")
    changes = np.abs(relative_changes(before, after))
    logit_changes = np.abs(_logits(after) - _logits(before)[:, None])
    weights = [np.ones((1, len(keys))), *patient_weights(keys, rounds, seed)]
    everything = {
        "median_change": [_weighted_median(changes, block) for block in weights],
        "median_logit_change": [_weighted_median(logit_changes, block) for block in weights],
        "auc": [weighted_areas(before, labels, block)[0] for block in weights],
        "auc_transformed": [
            np.mean([weighted_areas(column, labels, block)[0] for column in after.T], axis=0) for block in weights
        ],
    }
    return {name: np.concatenate(blocks) for name, blocks in everything.items()}


def _spread(figures: Floats, patients: NDArray[Any]) -> Interval:
    """The first of the figures is that of all cases, the others those of resamples."""
    return interval(float(figures[0]), figures[1:], patients)


def _weighted_median(values: Floats, weights: Floats) -> Floats:
    """Median of `values` [case, transform] for each row of `weights` [rounds, case], whole numbers: [rounds]."""
    order = np.argsort(values, axis=None)
    ranked, cases = values.ravel()[order], order // values.shape[1]
    medians = np.empty(len(weights))
    for place, counts in enumerate(weights):
        until = np.cumsum(counts[cases])
        total = until[-1]
        # Of an even number of values, the mean of the two in the middle.
        middle = np.searchsorted(until, [(total - 1) // 2, total // 2], side="right")
        medians[place] = ranked[middle].mean()
    return medians


def _logits(probabilities: Floats) -> Floats:
    inner = probabilities.clip(_EDGE, 1 - _EDGE)
    logits: Floats = np.log(inner) - np.log1p(-inner)
    return logits


def _checked(probabilities: ArrayLike, transformed: ArrayLike) -> tuple[Floats, Floats]:
    before, after = np.asarray(probabilities, dtype=np.float64), np.asarray(transformed, dtype=np.float64)
    if before.ndim != 1 or after.ndim != 2 or len(after) != len(before) or not after.size:
        raise UsageError(
            f"probabilities {before.shape} and transformed {after.shape} do not match; "
            "give [case] and [case, transform]"
        )
    for values in (before, after):
        if not ((values >= 0) & (values <= 1)).all():
            raise UsageError("probabilities lie outside [0, 1] or are not finite; give a sigmoid of the logits")
    return before, after
