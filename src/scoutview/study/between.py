"""Differences between tasks that ask the same of the same test cases, as the columns of the paper's Table IV do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scoutview.study.areas import MEASURES, Key
from scoutview.study.cells import Study
from scoutview.study.drawn import Drawn
from scoutview.study.plan import REFERENCE, StudyPlan
from scoutview.study.tasks import Part


def twins(study: Study) -> list[int]:
    """For each task, the number of the first one with the same test cases and targets: its own where there is none."""
    parts = [task.parts["test"] for task in study.tasks.values()]
    return [next(number for number, first in enumerate(parts) if _alike(part, first)) for part in parts]


def _alike(one: Part, other: Part) -> bool:
    return np.array_equal(one.patients, other.patients) and np.array_equal(one.values, other.values, equal_nan=True)


def task_differences(
    plan: StudyPlan,
    areas: Mapping[Key, Drawn],
    complete: Mapping[tuple[str, float], Sequence[int]],
    firsts: Sequence[int],
) -> list[dict[str, Any]]:
    """Fine-tuned models of a later task against those of the first with its test cases, where the same seeds count.

    The same encoder in both, which tells what the task's further labels or settings add; and each encoder in the later
    task against random weights in the first, which tells what all of it together does. firsts [task]: of `twins`.
    """
    names, measure = list(plan.tasks), MEASURES[0]
    entries = []
    for fraction in plan.fractions:
        for name, number in zip(names, firsts, strict=True):
            first = names[number]
            if name == first or complete[name, fraction] != complete[first, fraction]:
                continue
            for encoder in (REFERENCE, *plan.encoders):
                for reference in dict.fromkeys((encoder, REFERENCE)):
                    keys = (name, fraction, encoder, measure), (first, fraction, reference, measure)
                    if not all(key in areas for key in keys):
                        continue
                    mine, other = (areas[key] for key in keys)
                    told = {"task": name, "encoder": encoder, "against": first, "reference": reference}
                    entries.append({**told, "fraction": fraction, "difference": mine.minus(other).interval().as_dict()})
    return entries
