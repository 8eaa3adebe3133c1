"""The fROC of detectors on the test images, as the areas: mean sensitivity, intervals over patients and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scoutview.metrics import ClassBoxes, hits_of_class, mean_froc, mean_froc_draws
from scoutview.metrics.bootstrap import patient_weights
from scoutview.study.areas import MEASURES, Key
from scoutview.study.cells import Study
from scoutview.study.drawn import ROUNDS, Drawn, over_seeds
from scoutview.study.plan import Cell
from scoutview.tasks.detection import RULE


def all_frocs(
    study: Study, known: Mapping[Cell, Any], complete: Mapping[tuple[str, float], Sequence[int]]
) -> dict[Key, Drawn]:
    """The mean sensitivity (IoU 0.1) over classes and seeds of every fine-tuned detector; arguments as `all_areas`."""
    return {
        key: _froc(study, known, key, seeds, number)
        for number, task in enumerate(study.plan.tasks)
        if study.tasks[task].truths is not None
        for fraction in study.plan.fractions
        if (seeds := complete[task, fraction])
        for encoder in study.plan.models(task)
        for key in [(task, fraction, encoder, MEASURES[0])]
    }


def _froc(study: Study, known: Mapping[Cell, Any], key: Key, seeds: Sequence[int], number: int) -> Drawn:
    name, fraction, encoder, _ = key
    task = study.tasks[name]
    assert task.truths is not None
    truths, stated = task.truths
    classes = [column for column in range(len(task.classes)) if stated[:, column].any()]
    found = [_boxes(known[Cell(name, encoder, fraction, seed)]["boxes"]) for seed in seeds]
    hits = [[hits_of_class(boxes, truths, stated, column, RULE) for column in classes] for boxes in found]
    blocks = patient_weights(task.parts["test"].patients, ROUNDS, seed=number)
    draws = np.concatenate(
        [np.stack([mean_froc_draws(own, stated[:, classes], block) for own in hits]) for block in blocks], 1
    )
    return over_seeds(np.array([mean_froc(own) for own in hits]), draws, number)


def _boxes(kept: Mapping[str, Any]) -> ClassBoxes:
    """As result.json keeps them."""
    return ClassBoxes(
        np.array(kept["images"], dtype=np.int64),
        np.array(kept["classes"], dtype=np.int64),
        np.array(kept["scores"], dtype=np.float64),
        np.array(kept["corners"], dtype=np.float64).reshape(-1, 4),
    )
