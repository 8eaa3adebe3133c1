"""How fast the fine-tunings of a study arrive: curves, and the share of steps saved by both definitions (section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scoutview.metrics.convergence import SpeedUp, own_speed_up, speed_up
from scoutview.study.drawn import ALL
from scoutview.study.plan import REFERENCE, Cell, StudyPlan

Seeds = Mapping[tuple[str, float], Sequence[int]]


def curves(plan: StudyPlan, known: Mapping[Cell, Any], complete: Seeds) -> list[dict[str, Any]]:
    """The watched validation figure over steps of every task, fraction and encoder, over the seeds that count."""
    return [
        _curve(known, (task, fraction, encoder), seeds)
        for (task, fraction), seeds in complete.items()
        if seeds
        for encoder in (REFERENCE, *plan.encoders)
    ]


def convergence(plan: StudyPlan, known: Mapping[Cell, Any], complete: Seeds) -> list[dict[str, Any]]:
    """Share of steps saved against random weights, per task, and over all tasks.

    The figures of an entry are steps until 98% of the best validation AUC of random weights; those in `own_best` are
    until 98% of each run's own best. same_schedule: whether both have the same steps and batch, as a comparison needs.
    """
    entries: list[dict[str, Any]] = []
    for fraction in plan.fractions:
        for encoder in plan.encoders:
            common = {"fraction": fraction, "encoder": encoder}
            pairs = {
                task: [
                    (known[Cell(task, encoder, fraction, seed)], known[Cell(task, REFERENCE, fraction, seed)])
                    for seed in complete[task, fraction]
                ]
                for task in plan.tasks
            }
            for task, of_task in pairs.items():
                if of_task:
                    entries.append({"task": task, **common, **_saved(plan, of_task)})
            everything = [pair for of_task in pairs.values() for pair in of_task]
            if everything:
                entries.append({"task": ALL, **common, **_saved(plan, everything)})
    return entries


def _saved(plan: StudyPlan, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    curves = [(ours["curve"], reference["curve"]) for ours, reference in pairs]
    schedules = [
        {
            (chosen.steps, chosen.batch_size)
            for result in pair
            for chosen in [plan.settings(result["task"], 0, result["choice"])]
        }
        for pair in pairs
    ]
    return {
        **_spread([speed_up(*each) for each in curves]),
        "own_best": _spread([own_speed_up(*each) for each in curves]),
        "same_schedule": all(len(each) == 1 for each in schedules),
    }


def _spread(pairs: Sequence[SpeedUp]) -> dict[str, Any]:
    """Mean and deviation of the shares saved, one per seed; in_all: 1 - sum of steps / sum of the reference's.

    A reference whose first evaluation is lucky makes its own share hugely negative; in_all does not hang on it.
    """
    saved = [pair.saved for pair in pairs]
    return {
        "saved": float(np.mean(saved)),
        "deviation": float(np.std(saved)),
        "in_all": 1.0 - sum(pair.steps for pair in pairs) / sum(pair.reference for pair in pairs),
        "not_reached": sum(not pair.reached for pair in pairs),
        "by_seed": saved,
    }


def _curve(known: Mapping[Cell, Any], row: tuple[str, float, str], seeds: Sequence[int]) -> dict[str, Any]:
    """The watched validation figure over steps: mean, lowest and highest seed."""
    task, fraction, encoder = row
    curves = [known[Cell(task, encoder, fraction, seed)]["curve"] for seed in seeds]
    shortest = min(len(curve) for curve in curves)
    values = np.array([[value for _, value in curve[:shortest]] for curve in curves])
    return {
        "task": task,
        "fraction": fraction,
        "encoder": encoder,
        "steps": [step for step, _ in curves[0][:shortest]],
        "mean": values.mean(0).tolist(),
        "low": values.min(0).tolist(),
        "high": values.max(0).tolist(),
    }
