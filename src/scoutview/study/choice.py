"""Which settings of the search count: those of the best mean validation AUC. The test images have no say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoutview.study.plan import Cell, StudyPlan


@dataclass(frozen=True)
class Tried:
    """A choice of settings for an encoder at a fraction.

    validation_auc: mean, over the tasks and seeds that all its rivals have finished too, of the best validation AUC;
    None where there are none. runs: how many trainings it has finished.
    """

    encoder: str
    fraction: float
    choice: str | None
    validation_auc: float | None
    runs: int
    chosen: bool


def choose(plan: StudyPlan, results: Mapping[Cell, Mapping[str, Any]], encoder: str, fraction: float) -> list[Tried]:
    """All choices of an encoder at a fraction, one of them chosen if any has finished a training.

    Rivals are the choices with the most finished trainings: settings with which some training fails are taken only
    where each has failed. Of equal means the first one in the study file is taken.
    """
    places = [(task, seed) for task in plan.tasks for seed in range(plan.seeds)]
    finished: dict[str | None, dict[tuple[str, int], float]] = {
        choice: {
            (task, seed): max(value for _, value in results[cell]["curve"])
            for task, seed in places
            if (cell := Cell(task, encoder, fraction, seed, choice)) in results and "curve" in results[cell]
        }
        for choice in plan.choices()
    }
    most = max(len(runs) for runs in finished.values())
    rivals = [choice for choice, runs in finished.items() if len(runs) == most]
    shared = [place for place in places if all(place in finished[choice] for choice in rivals)]
    means = {choice: _mean([finished[choice].get(place) for place in shared]) for choice in finished}
    ranked = [choice for choice in rivals if means[choice] is not None]
    best = max(ranked, key=lambda choice: means[choice] or 0.0, default=None)
    return [
        Tried(encoder, fraction, choice, means[choice], len(runs), bool(ranked) and choice == best)
        for choice, runs in finished.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
