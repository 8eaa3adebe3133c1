"""The figures of a classifier on a test set: the content of evaluation.json (spec section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError
from scoutview.metrics.auc import (
    checked,
    precision_recall_curve,
    roc_curve,
    weighted_accuracy,
    weighted_areas,
    weighted_sensitivity,
)
from scoutview.metrics.bootstrap import interval, patient_weights
from scoutview.metrics.calibration import reliability, weighted_calibration

Floats = NDArray[np.float64]
_CURVE_POINTS = 500  # more cannot be told apart in a picture, and the file stays small
SPECIFICITY = 0.9
"""At which the sensitivity is told."""
_FIGURES = ("auc", "ap", "accuracy", "sensitivity", "brier", "calibration_error")
"""In the order in which they lie in arrays."""


def evaluate_scores(
    scores: ArrayLike,
    targets: ArrayLike,
    patients: ArrayLike,
    class_names: Sequence[str],
    threshold: float = 0.5,
    rounds: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """AUC, AP, accuracy, sensitivity and calibration with 95% intervals over patients, per class and as their mean.

    `scores` [n, classes], finite, probabilities if the figures of calibration are to have a value; `targets`
    [n, classes], 1, 0 or NaN for unknown; `patients` [n] keys. One column per class, so a binary task has one. Unknown
    entries count nowhere; an image without any known entry is left out. Every figure is drawn from the same resamples
    of patients; a mean is over the classes that have a value, in a resample as on the whole.

    Returns `n_images`, `n_patients`, `metrics` {auc, ap, accuracy (with its threshold), sensitivity (with the
    specificity that it is at), brier, calibration_error}, `per_class` {name: {the same but for accuracy, positives,
    images}}, `curves` {name: {false_positive_rate, true_positive_rate, recall, precision}}, at most 500 points each,
    empty lists where a class is absent, and `reliability` {name: {mean_probability, observed, images}}, of the bins
    that hold images. Figures without a value are NaN, which `scoutview.files.write_json` writes as null. Raises
    `UsageError` for shapes that do not match, other target values, repeated class names, or no known target at all.
    """
    scores, targets, keys = _checked(scores, targets, patients, class_names)
    known = ~np.isnan(targets)
    taken = known.any(axis=1)
    if not taken.any():
        raise UsageError("no image has a known target; nothing can be evaluated")
    scores, targets, keys, known = scores[taken], targets[taken], keys[taken], known[taken]

    whole = _figures(scores, targets, known, np.ones((1, len(keys))), threshold)[0]
    draws = np.concatenate(
        [_figures(scores, targets, known, weights, threshold) for weights in patient_weights(keys, rounds, seed)]
    )

    def spread(figure: str, name: int) -> dict[str, Any]:
        place = _FIGURES.index(figure)
        return interval(whole[place, name], draws[:, place, name], keys[known[:, name]]).as_dict()

    def mean(figure: str) -> dict[str, Any]:
        place = _FIGURES.index(figure)
        return interval(mean_over_classes(whole[place][None])[0], mean_over_classes(draws[:, place]), keys).as_dict()

    return {
        "n_images": len(keys),
        "n_patients": len(np.unique(keys)),
        "metrics": {
            **{figure: mean(figure) for figure in _FIGURES},
            "accuracy": mean("accuracy") | {"threshold": threshold},
            "sensitivity": mean("sensitivity") | {"specificity": SPECIFICITY},
        },
        "per_class": {
            name: {
                **{figure: spread(figure, index) for figure in _FIGURES if figure != "accuracy"},
                "positives": int(np.count_nonzero(targets[:, index] == 1)),
                "images": int(np.count_nonzero(known[:, index])),
            }
            for index, name in enumerate(class_names)
        },
        "curves": {
            name: _curves(scores[known[:, index], index], targets[known[:, index], index] == 1)
            for index, name in enumerate(class_names)
        },
        "reliability": {
            name: _reliability(scores[known[:, index], index], targets[known[:, index], index] == 1)
            for index, name in enumerate(class_names)
        },
    }


def _figures(scores: Floats, targets: Floats, known: NDArray[np.bool_], weights: Floats, threshold: float) -> Floats:
    """[rounds, figure, classes] under each row of `weights` [rounds, n]."""
    figures = np.full((len(weights), len(_FIGURES), scores.shape[1]), np.nan)
    for index in range(scores.shape[1]):
        here = known[:, index]
        score, positive, weight = scores[here, index], targets[here, index] == 1, weights[:, here]
        figures[:, 0, index], figures[:, 1, index] = weighted_areas(score, positive, weight)
        figures[:, 2, index] = weighted_accuracy(score, positive, weight, threshold)
        figures[:, 3, index] = weighted_sensitivity(score, positive, weight, SPECIFICITY)
        if _are_probabilities(score):
            figures[:, 4, index], figures[:, 5, index] = weighted_calibration(score, positive, weight)
    return figures


def mean_over_classes(figures: Floats) -> Floats:
    """Mean over the classes that have a value: [rounds, classes] -> [rounds], NaN where none has."""
    present = ~np.isnan(figures)
    number = present.sum(axis=1)
    total = np.where(present, figures, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _are_probabilities(scores: Floats) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def _reliability(scores: Floats, positives: NDArray[np.bool_]) -> dict[str, list[float]]:
    if not _are_probabilities(scores):
        return {"mean_probability": [], "observed": [], "images": []}
    points = reliability(scores, positives)
    held = points.images > 0
    return {
        "mean_probability": points.mean_probability[held].tolist(),
        "observed": points.observed[held].tolist(),
        "images": points.images[held].tolist(),
    }


def _curves(scores: Floats, positives: NDArray[np.bool_]) -> dict[str, list[float]]:
    names = ("false_positive_rate", "true_positive_rate", "recall", "precision")
    if positives.all() or not positives.any():
        return {name: [] for name in names}
    curves = (*roc_curve(scores, positives), *precision_recall_curve(scores, positives))
    return {name: _thinned(curve).tolist() for name, curve in zip(names, curves, strict=True)}


def _thinned(curve: Floats) -> Floats:
    """At most `_CURVE_POINTS` of the points, evenly spread, with the first and the last."""
    if len(curve) <= _CURVE_POINTS:
        return curve
    return curve[np.linspace(0, len(curve) - 1, _CURVE_POINTS).round().astype(np.intp)]


def _checked(
    scores: ArrayLike, targets: ArrayLike, patients: ArrayLike, class_names: Sequence[str]
) -> tuple[Floats, Floats, NDArray[Any]]:
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    keys = np.asarray(patients)
    if scores.ndim != 2 or scores.shape != targets.shape or keys.shape != scores.shape[:1]:
        raise UsageError(
            f"scores {scores.shape}, targets {targets.shape} and patients {keys.shape} do not match; "
            "give [n, classes], [n, classes] and [n]"
        )
    if scores.shape[1] != len(class_names) or len(set(class_names)) != len(class_names):
        raise UsageError(
            f"{len(class_names)} class names {list(class_names)} for {scores.shape[1]} columns; "
            "give one different name per column"
        )
    for index, name in enumerate(class_names):
        known = ~np.isnan(targets[:, index])
        try:
            checked(scores[known, index], targets[known, index])
        except UsageError as error:
            raise UsageError(f"class {name}: {error}") from None
    return scores, targets, keys
