"""Areas under curves, and the curves (spec section 7).

All of them sort once and treat equal scores as one step, so the order of the images never matters.
The `weighted_` forms take many weightings of the same images at once: a bootstrap resample is nothing but
a count per image, and 2000 of them cost one sort.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError

Floats = NDArray[np.float64]


def roc_auc(scores: ArrayLike, positives: ArrayLike) -> float:
    """Chance that a random positive scores above a random negative, ties counting half.

    `scores` [n], finite, larger means more positive; `positives` [n], bool or 0/1. Returns a value in [0, 1],
    NaN when there is no positive or no negative. Raises `UsageError` for other shapes or values.
    """
    scores, positives = checked(scores, positives)
    return float(weighted_areas(scores, positives, np.ones((1, len(scores))))[0][0])


def average_precision(scores: ArrayLike, positives: ArrayLike) -> float:
    """Sum over thresholds of (gain in recall) x precision, without interpolation, as scikit-learn has it.

    Arguments as in `roc_auc`. Returns a value in [0, 1], NaN when there is no positive.
    """
    scores, positives = checked(scores, positives)
    return float(weighted_areas(scores, positives, np.ones((1, len(scores))))[1][0])


def accuracy(scores: ArrayLike, positives: ArrayLike, threshold: float) -> float:
    """Share of images for which `score >= threshold` says what `positives` [n] says: [0, 1], NaN for none."""
    scores, positives = checked(scores, positives)
    return float(np.mean((scores >= threshold) == positives)) if len(scores) else float("nan")


def sensitivity_at_specificity(scores: ArrayLike, positives: ArrayLike, specificity: float) -> float:
    """The largest sensitivity of a threshold whose specificity is at least `specificity`, without interpolation.

    Arguments as in `roc_auc`; an image is called positive where its score reaches the threshold. Returns a value in
    [0, 1], 0 where only a threshold above all scores is specific enough, NaN when there is no positive or no
    negative. Raises `UsageError` for a specificity outside [0, 1] too.
    """
    scores, positives = checked(scores, positives)
    return float(weighted_sensitivity(scores, positives, np.ones((1, len(scores))), specificity)[0])


def macro_auc(scores: ArrayLike, targets: ArrayLike) -> float:
    """Mean one-versus-rest AUC over the classes that occur in `targets`.

    `scores` [n, classes]; `targets` [n], integers in [0, classes). NaN when fewer than two classes occur.
    """
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise UsageError(f"scores {scores.shape} and targets {targets.shape} do not match; give [n, classes] and [n]")
    if not np.issubdtype(targets.dtype, np.integer):
        raise UsageError(f"targets are {targets.dtype}; give integers, one class number per image")
    present = np.unique(targets)
    if len(present) and not 0 <= present[0] <= present[-1] < scores.shape[1]:
        raise UsageError(f"targets lie in [{present[0]}, {present[-1]}] where scores have {scores.shape[1]} classes")
    if len(present) < 2:
        return float("nan")
    return float(np.mean([roc_auc(scores[:, name], targets == name) for name in present]))


def roc_curve(scores: ArrayLike, positives: ArrayLike) -> tuple[Floats, Floats]:
    """(false positive rate, true positive rate), each [points] from 0 to 1, one point per distinct score.

    A rate whose class is absent is NaN throughout.
    """
    steps = _steps(*checked(scores, positives))
    false_positives = np.concatenate([[0.0], np.cumsum(steps.negatives)])
    true_positives = np.concatenate([[0.0], np.cumsum(steps.positives)])
    return _share(false_positives), _share(true_positives)


def precision_recall_curve(scores: ArrayLike, positives: ArrayLike) -> tuple[Floats, Floats]:
    """(recall, precision), each [points] by increasing recall, one point per distinct score.

    Begins at recall 0, precision 1, the usual convention. Without positives the recall is NaN throughout.
    """
    steps = _steps(*checked(scores, positives))
    true_positives = np.cumsum(steps.positives)
    precision = true_positives / np.cumsum(steps.positives + steps.negatives)
    return _share(np.concatenate([[0.0], true_positives])), np.concatenate([[1.0], precision])


def weighted_areas(scores: Floats, positives: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """(`roc_auc`, `average_precision`), each [rounds], for each row of `weights` [rounds, n].

    A weight (>= 0) is how often an image counts. Both areas come from one pass, for they need the same sums.
    """
    order, starts = _descending(scores)
    if not len(order):
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    weights = weights[:, order]
    positive = np.add.reduceat(weights * positives[order], starts, axis=1)
    both = np.add.reduceat(weights, starts, axis=1)
    predicted = np.cumsum(both, axis=1)
    found = np.cumsum(positive, axis=1)
    all_positives, all_images = found[:, -1], predicted[:, -1]
    negatives = all_images - all_positives
    # Negatives scoring lower, and half of those scoring the same.
    below = negatives[:, None] - (predicted - found) + (both - positive) / 2
    auc = _divided(np.einsum("rs,rs->r", positive, below), all_positives * negatives)
    # Images of weight 0 at the top leave predicted = 0; the gain in recall is 0 there as well.
    precision = found / np.where(predicted > 0, predicted, 1.0)
    return auc, _divided(np.einsum("rs,rs->r", positive, precision), all_positives)


def weighted_accuracy(scores: Floats, positives: NDArray[np.bool_], weights: Floats, threshold: float) -> Floats:
    """`accuracy` for each row of `weights` [rounds, n]. Returns [rounds], NaN where all weights are 0."""
    correct = (scores >= threshold) == positives
    return _divided(weights @ correct.astype(np.float64), weights.sum(axis=1))


def weighted_sensitivity(scores: Floats, positives: NDArray[np.bool_], weights: Floats, specificity: float) -> Floats:
    """`sensitivity_at_specificity` for each row of `weights` [rounds, n], whole numbers. Returns [rounds]."""
    if not 0 <= specificity <= 1:
        raise UsageError(f"specificity {specificity} is not between 0 and 1; 0.9 asks for 90%")
    order, starts = _descending(scores)
    if not len(order):
        return np.full(len(weights), np.nan)
    weights, positive = weights[:, order], positives[order]
    found = np.cumsum(np.add.reduceat(weights * positive, starts, axis=1), axis=1)
    negatives = np.cumsum(np.add.reduceat(weights * ~positive, starts, axis=1), axis=1)
    all_positives, all_negatives = found[:, -1], negatives[:, -1]
    # A ratio, as a reader computes it: 1 - specificity is not the double that a share of 0.1 is.
    specific = _divided(all_negatives[:, None] - negatives, np.broadcast_to(all_negatives[:, None], negatives.shape))
    best = np.where(specific >= specificity, found, 0.0).max(axis=1)
    return _divided(best, np.where(all_negatives > 0, all_positives, 0.0))


def checked(scores: ArrayLike, positives: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Both as arrays [n]; raises `UsageError` unless scores are finite and positives are bool or 0/1."""
    scores, positives = np.asarray(scores, dtype=np.float64), np.asarray(positives)
    if scores.ndim != 1 or scores.shape != positives.shape:
        raise UsageError(f"scores {scores.shape} and positives {positives.shape} differ; give [n] and [n]")
    if not np.isfinite(scores).all():
        raise UsageError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores are not finite; "
            "drop those images or repair the model that scored them"
        )
    if positives.dtype != np.bool_ and not np.isin(positives, (0, 1)).all():
        raise UsageError("positives hold values other than 0 and 1; give one bool per image")
    return scores, positives.astype(np.bool_)


class _Steps(NamedTuple):
    positives: Floats
    negatives: Floats


def _steps(scores: Floats, positives: NDArray[np.bool_]) -> _Steps:
    """Positives and negatives at each distinct score, highest first: two arrays [distinct scores]."""
    order, starts = _descending(scores)
    if not len(order):
        return _Steps(np.zeros(0), np.zeros(0))
    here = positives[order].astype(np.float64)
    return _Steps(np.add.reduceat(here, starts), np.add.reduceat(1 - here, starts))


def _descending(scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order of decreasing score [n], and where in it each run of equal scores starts."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(ranked)])


def _share(cumulative: Floats) -> Floats:
    total = cumulative[-1]
    return cumulative / total if total else np.full_like(cumulative, np.nan)


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise ratio, NaN where the denominator is 0."""
    ratio = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio
