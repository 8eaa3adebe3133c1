"""How much the fine-tuned models move under transforms, against random weights (spec section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scoutview.metrics.robustness import box_plot, relative_changes, robustness_draws
from scoutview.study.cells import Study
from scoutview.study.drawn import ROUNDS, Drawn, Floats, over_seeds
from scoutview.study.plan import REFERENCE, Cell

FIGURES = ("median_change", "median_logit_change", "auc", "auc_transformed")


def robustness(
    study: Study, known: Mapping[Cell, Any], complete: Mapping[tuple[str, float], Sequence[int]]
) -> list[dict[str, Any]]:
    """Per task and encoder, at the largest fraction: figures with intervals, box plots, differences to random weights.

    The figures of `evaluate_robustness`, per class, and as the mean over classes. Box plots hold the relative changes
    of all seeds.
    """
    if study.plan.robustness is None:
        return []
    entries = []
    fraction = max(study.plan.fractions)
    for number, (task, seeds) in enumerate((task, complete[task, fraction]) for task in study.plan.tasks):
        reference: dict[str, Drawn] = {}
        for encoder in (REFERENCE, *study.plan.encoders) if seeds else ():
            runs = [known[Cell(task, encoder, fraction, seed)]["robustness"] for seed in seeds]
            classes = {
                name: _of_class(study, task, column, runs, number)
                for column, name in enumerate(study.tasks[task].classes)
            }
            mean = {name: _mean([figures[name] for figures, _ in classes.values()]) for name in FIGURES}
            reference = reference or mean
            entries.append(
                {
                    "task": task,
                    "encoder": encoder,
                    "fraction": fraction,
                    "cases": len(runs[0]["cases"]),
                    "transforms": len(runs[0]["transformed"][0]),
                    **{name: figure.interval().as_dict() for name, figure in mean.items()},
                    "changes": box_plot(np.concatenate([changes.ravel() for _, changes in classes.values()])),
                    "minus_reference": {
                        name: figure.minus(reference[name]).interval().as_dict() for name, figure in mean.items()
                    },
                    "by_class": {
                        name: {
                            **{key: figure.interval().as_dict() for key, figure in figures.items()},
                            "changes": box_plot(changes),
                        }
                        for name, (figures, changes) in classes.items()
                    },
                }
            )
    return entries


def _of_class(
    study: Study, task: str, column: int, runs: Sequence[Mapping[str, Any]], number: int
) -> tuple[dict[str, Drawn], Floats]:
    """The figures of one class over seeds, and the relative changes [seed, case, transform]."""
    test, cases = study.tasks[task].parts["test"], np.array(runs[0]["cases"])
    values, patients = test.values[cases, column], test.patients[cases]
    stated = ~np.isnan(values)
    before = [np.array(run["probabilities"])[stated, column] for run in runs]
    after = [np.array(run["transformed"])[stated, :, column] for run in runs]
    draws = [
        robustness_draws(one, other, values[stated] > 0.5, patients[stated], ROUNDS, number)
        for one, other in zip(before, after, strict=True)
    ]
    figures = {}
    for name in FIGURES:
        stacked = np.stack([each[name] for each in draws])
        figures[name] = over_seeds(stacked[:, 0], stacked[:, 1:], number)
    return figures, np.stack([relative_changes(*pair) for pair in zip(before, after, strict=True)])


def _mean(figures: Sequence[Drawn]) -> Drawn:
    """Over the classes that have a value: an area has none where a class, or all else, is missing."""
    return Drawn(
        _known_mean(np.stack([figure.by_seed for figure in figures])),
        _known_mean(np.stack([figure.draws for figure in figures])),
    )


def _known_mean(values: Floats) -> Floats:
    known = ~np.isnan(values)
    mean: Floats = np.where(known.any(0), np.where(known, values, 0.0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
    return mean
