"""Two models on the same test cases: the figures of both and their paired differences (spec section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoutview.errors import UsageError
from scoutview.metrics.auc import weighted_areas
from scoutview.metrics.bootstrap import interval, patient_weights
from scoutview.metrics.classification import mean_over_classes
from scoutview.metrics.detection import RULES, ClassBoxes, froc_name, hits_of_class, weighted_scores
from scoutview.metrics.paired import difference_of
from scoutview.metrics.robustness import robustness_draws

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CaseScores:
    """What a model says of every test case: all that a comparison with another model needs.

    classes: names. cases [case]: what names each in its store. patients [case]: keys. scores [case, class]; targets
    [case, class] in {0, 1}, NaN where unknown. Of a detector also its boxes and the true ones, whose images are cases.
    """

    classes: tuple[str, ...]
    cases: NDArray[Any]
    patients: NDArray[Any]
    scores: Floats
    targets: NDArray[np.floating[Any]]
    detections: ClassBoxes | None = None
    truths: ClassBoxes | None = None

    def same_cases(self, other: CaseScores) -> bool:
        """Whether the other model was asked the same of the same cases, in the same order."""
        return (
            self.classes == other.classes
            and np.array_equal(self.cases, other.cases)
            and np.array_equal(self.patients, other.patients)
            and np.array_equal(self.targets, other.targets, equal_nan=True)
        )


def compare_models(this: CaseScores, other: CaseScores, rounds: int = 2000, seed: int = 0) -> dict[str, Any]:
    """AUC and AP of two models, of detectors the fROC too, and their differences, with 95% intervals over patients.

    All are drawn from the same resamples of patients, which are those of `evaluate_scores`: areas, and means over
    classes, have the intervals that they have there and in `evaluate_detections`. Returns `metrics` (means over
    classes) and `per_class` {name: ...}, each {auc, ap, froc_...: {this, other, difference}}; a difference is this
    minus other, with its `p`. Raises `UsageError` where the cases are not the same, or nothing is known of any.
    """
    if not this.same_cases(other):
        raise UsageError("the two models were scored on different cases or targets; compare them on the same")
    known = ~np.isnan(this.targets)
    taken = known.any(axis=1)
    if not taken.any():
        raise UsageError("no case has a known target; nothing can be compared")
    keys = this.patients[taken]
    weights = [np.ones((1, len(keys))), *patient_weights(keys, rounds, seed)]
    areas = [_areas(model.scores[taken], this.targets[taken], weights) for model in (this, other)]
    figures = {name: tuple(each[place] for each in areas) for place, name in enumerate(("auc", "ap"))}
    if this.truths is not None and this.detections is not None and other.detections is not None:
        for rule in RULES:
            found = [
                [hits_of_class(boxes, this.truths, known, number, rule) for number in range(len(this.classes))]
                for boxes in (this.detections, other.detections)
            ]
            figures[froc_name(rule)] = tuple(
                np.concatenate([weighted_scores(hits, known[taken], block) for block in weights]) for hits in found
            )
    return {
        "metrics": {
            name: paired_figures(mean_over_classes(one), mean_over_classes(two), keys)
            for name, (one, two) in figures.items()
        },
        "per_class": {
            label: {
                name: paired_figures(one[:, number], two[:, number], keys[known[taken, number]])
                for name, (one, two) in figures.items()
            }
            for number, label in enumerate(this.classes)
        },
    }


@dataclass(frozen=True)
class MovedScores:
    """Probabilities of some cases [case, class], and of the same under transforms [case, transform, class]."""

    before: Floats
    after: Floats


def compare_robustness(
    this: MovedScores,
    other: MovedScores,
    targets: NDArray[np.floating[Any]],
    patients: NDArray[Any],
    rounds: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The figures of `robustness_draws` of two models under the same transforms, means over classes, as above.

    targets [case, class] in {0, 1}, NaN where unknown; patients [case] keys. Returns {median_change,
    median_logit_change, auc, auc_transformed: {this, other, difference}}. Raises `UsageError` for shapes that do not
    match.
    """
    by_class = []
    for number, values in enumerate(targets.T):
        known = ~np.isnan(values)
        if known.any():
            asked = values[known] == 1, patients[known], rounds, seed
            models = ((model.before[known, number], model.after[known, :, number]) for model in (this, other))
            by_class.append([robustness_draws(*each, *asked) for each in models])
    if not by_class:
        raise UsageError("no case has a known target; nothing can be compared")
    figures = {}
    for name in by_class[0][0]:
        one, two = (mean_over_classes(np.stack([found[model][name] for found in by_class], 1)) for model in (0, 1))
        figures[name] = paired_figures(one, two, patients)
    return figures


def paired_figures(this: Floats, other: Floats, patients: NDArray[Any]) -> dict[str, dict[str, float]]:
    """this, other: [1 + round], a figure of all cases and of each resample of `patients` [case]."""
    figures = {name: interval(float(each[0]), each[1:], patients) for name, each in (("this", this), ("other", other))}
    difference = this - other
    tests = difference_of(float(difference[0]), difference[1:], patients)
    return {name: each.as_dict() for name, each in figures.items()} | {"difference": tests.as_dict()}


def _areas(scores: Floats, targets: NDArray[np.floating[Any]], weights: Sequence[Floats]) -> tuple[Floats, Floats]:
    """(AUC, AP), each [1 + round, class]."""
    columns = []
    for score, target in zip(scores.T, targets.T, strict=True):
        known = ~np.isnan(target)
        blocks = [weighted_areas(score[known], target[known] == 1, block[:, known]) for block in weights]
        columns.append([np.concatenate(area) for area in zip(*blocks, strict=True)])
    auc, ap = (np.stack(area, 1) for area in zip(*columns, strict=True))
    return auc, ap
