"""Areas under the curve on the test cases, and their paired differences, with intervals over patients and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.metrics.auc import weighted_areas
from scoutview.metrics.bootstrap import patient_weights
from scoutview.study.cells import Study
from scoutview.study.drawn import ALL, ROUNDS, Drawn, Floats, over_seeds, over_tasks
from scoutview.study.plan import RAW, REFERENCE, Cell, StudyPlan

MEASURES = ("fine-tuned", "linear", "neighbours")

Key = tuple[str, float, str, str]
"""(task, fraction, encoder, measure)."""


def all_areas(
    study: Study,
    known: Mapping[Cell, Any],
    complete: Mapping[tuple[str, float], Sequence[int]],
    resampled: Sequence[int],
) -> dict[Key, Drawn]:
    """The mean AUC over classes and seeds of every model.

    complete: the seeds of a task and fraction that count. resampled [task]: tasks of one number draw the same patients.
    """
    return {
        key: _areas(study, known, key, seeds, number)
        for number, task in zip(resampled, study.plan.tasks, strict=True)
        for fraction in study.plan.fractions
        if (seeds := complete[task, fraction])
        for encoder in study.plan.models(task)
        for measure in (MEASURES if study.plan.tasks[task].probed else MEASURES[:1])
        if not (encoder == RAW and measure == "fine-tuned")
        for key in [(task, fraction, encoder, measure)]
    }


def _areas(study: Study, known: Mapping[Cell, Any], key: Key, seeds: Sequence[int], number: int) -> Drawn:
    task, fraction, encoder, measure = key
    test = study.tasks[task].parts["test"]
    ones = np.ones((1, len(test.patients)))
    scores = [
        np.array(known[Cell(task, encoder, fraction, seed)]["scores"][measure], dtype=np.float64) for seed in seeds
    ]
    by_seed = np.array([_mean_areas(each, test.values, ones)[0] for each in scores])
    # Tasks of different patients are resampled independently: another seed for each.
    blocks = patient_weights(test.patients, ROUNDS, seed=number)
    draws = np.concatenate(
        [np.stack([_mean_areas(each, test.values, block) for each in scores]) for block in blocks], 1
    )
    return over_seeds(by_seed, draws, number)


def _mean_areas(scores: Floats, values: npt.NDArray[np.floating[Any]], weights: Floats) -> Floats:
    """AUC [round], mean over the classes that have a value under the weights [round, case]."""
    areas = []
    for column in range(values.shape[1]):
        here = ~np.isnan(values[:, column])
        areas.append(weighted_areas(scores[here, column], values[here, column] > 0.5, weights[:, here])[0])
    stacked = np.stack(areas)
    present = ~np.isnan(stacked)
    total = np.where(present, stacked, 0.0).sum(0)
    mean: Floats = np.where(present.any(0), total / np.maximum(present.sum(0), 1), np.nan)
    return mean


def differences(plan: StudyPlan, areas: Mapping[Key, Drawn]) -> list[dict[str, Any]]:
    """Each encoder against random weights, its probes against raw pixels, and the pairs of encoders of the plan.

    Per task, and as the mean over tasks where every task has a figure.
    """
    entries = []
    against: dict[str, list[str]] = {encoder: [REFERENCE, RAW] for encoder in plan.encoders}
    for encoder, other in plan.pairs():
        against[encoder].append(other)
    for fraction in plan.fractions:
        for encoder in plan.encoders:
            for measure in MEASURES:
                for reference in against[encoder]:
                    if reference == RAW and measure == "fine-tuned":
                        continue
                    paired = {
                        task: areas[task, fraction, encoder, measure].minus(areas[task, fraction, reference, measure])
                        for task in plan.tasks
                        if (task, fraction, encoder, measure) in areas
                    }
                    common = {"fraction": fraction, "encoder": encoder, "reference": reference, "measure": measure}
                    for task, entry in paired.items():
                        entries.append({"task": task, **common, "difference": entry.interval().as_dict()})
                    if len(paired) == len(plan.tasks) > 1:
                        mean = over_tasks(list(paired.values())).as_dict()
                        entries.append({"task": ALL, **common, "difference": mean})
    return entries
