"""From the scores of all cells to figures with intervals: areas, paired differences, speed-up of convergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.metrics.auc import weighted_areas
from scoutview.metrics.bootstrap import Interval, interval, patient_weights
from scoutview.metrics.convergence import SpeedUp, speed_up
from scoutview.study.cells import Study, read_result
from scoutview.study.choice import Tried, choose
from scoutview.study.plan import RAW, REFERENCE, Cell

ROUNDS = 2000
MEASURES = ("fine-tuned", "linear", "neighbours")
ALL = "mean over tasks"

Floats = npt.NDArray[np.float64]
Key = tuple[str, float, str, str]
"""(task, fraction, encoder, measure)."""


@dataclass(frozen=True)
class Areas:
    """The mean AUC over classes and seeds: by_seed [seed] on the test set, draws [round] of the bootstrap.

    A round draws test patients with replacement, and seeds with replacement, the same ones for every encoder.
    """

    by_seed: Floats
    draws: Floats

    def interval(self) -> Interval:
        """95% over patients and seeds."""
        return _interval(float(self.by_seed.mean()), self.draws)

    def minus(self, other: Areas) -> Areas:
        """The paired difference."""
        return Areas(self.by_seed - other.by_seed, self.draws - other.draws)


def summarise(study: Study) -> dict[str, Any]:
    """The content of study.json, from the cells that are done.

    Only seeds for which a task has every encoder at a fraction count, so that differences are paired.
    """
    cells = list(study.plan.cells())
    results = {cell: result for cell in cells if (result := read_result(cell.folder(study.out))) is not None}
    tried = [
        entry
        for fraction in study.plan.fractions
        for encoder in (REFERENCE, *study.plan.encoders)
        for entry in choose(study.plan, results, encoder, fraction)
    ]
    known = _rows(study, results, tried)
    complete = _complete_seeds(study, known)
    areas = {
        key: _areas(study, known, key, seeds, number)
        for number, task in enumerate(study.plan.tasks)
        for fraction in study.plan.fractions
        if (seeds := complete[task, fraction])
        for encoder in (REFERENCE, *study.plan.encoders, RAW)
        for measure in MEASURES
        if not (encoder == RAW and measure == "fine-tuned")
        for key in [(task, fraction, encoder, measure)]
    }
    curves = [
        _curve(known, (task, fraction, encoder), seeds)
        for (task, fraction), seeds in complete.items()
        if seeds
        for encoder in (REFERENCE, *study.plan.encoders)
    ]
    return {
        "plan": study.plan.as_dict(),
        "architecture": study.like.architecture,
        "input_size": study.like.input_size,
        "cells": len(cells),
        "done": len(results),
        "seconds": sum(result["seconds"] for result in results.values()),
        "tasks": {name: _task(study, name) for name in study.plan.tasks},
        "areas": [
            {**_named(key), "auc": entry.interval().as_dict(), "by_seed": entry.by_seed.tolist()}
            for key, entry in areas.items()
        ],
        "choices": [{**asdict(entry), "settings": study.plan.choices()[entry.choice]} for entry in tried],
        "differences": _differences(study, areas),
        "curves": curves,
        "convergence": _convergence(study, known, complete),
        "labelled": _labelled(known),
    }


def _rows(study: Study, results: Mapping[Cell, Any], tried: Sequence[Tried]) -> dict[Cell, Any]:
    """The result of each row of the tables: its frozen probes, and the training with the settings that count."""
    chosen = {(entry.encoder, entry.fraction): entry.choice for entry in tried if entry.chosen}
    rows = {}
    for cell, result in results.items():
        if cell.choice is not None:
            continue
        if cell.encoder == RAW or study.plan.trains(cell):
            rows[cell] = result
        elif (key := (cell.encoder, cell.fraction)) in chosen:
            trained = results.get(replace(cell, choice=chosen[key]))
            if trained is not None:
                rows[cell] = {**trained, "scores": {**result["scores"], **trained["scores"]}}
    return rows


def _complete_seeds(study: Study, known: Mapping[Cell, Any]) -> dict[tuple[str, float], list[int]]:
    everyone = (REFERENCE, *study.plan.encoders, RAW)
    return {
        (task, fraction): [
            seed
            for seed in range(study.plan.seeds)
            if all(Cell(task, encoder, fraction, seed) in known for encoder in everyone)
        ]
        for task in study.plan.tasks
        for fraction in study.plan.fractions
    }


def _areas(study: Study, known: Mapping[Cell, Any], key: Key, seeds: Sequence[int], number: int) -> Areas:
    task, fraction, encoder, measure = key
    test = study.parts[task].test
    patients = study.archive.patients(test.indices)
    ones = np.ones((1, len(patients)))
    scores = [
        np.array(known[Cell(task, encoder, fraction, seed)]["scores"][measure], dtype=np.float64) for seed in seeds
    ]
    by_seed = np.array([_mean_areas(each, test.values, ones)[0] for each in scores])
    # The tasks have different patients, so their resamples are independent: another seed for each.
    blocks = patient_weights(patients, ROUNDS, seed=number)
    draws = np.concatenate(
        [np.stack([_mean_areas(each, test.values, block) for each in scores]) for block in blocks], 1
    )
    chosen = np.random.default_rng(1000 + number).integers(len(seeds), size=(len(seeds), ROUNDS))
    return Areas(by_seed, np.take_along_axis(draws, chosen, 0).mean(0))


def _mean_areas(scores: Floats, values: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """AUC [round], mean over the classes that have a value under the weights [round, image]."""
    areas = []
    for column in range(values.shape[1]):
        here = ~np.isnan(values[:, column])
        areas.append(weighted_areas(scores[here, column], values[here, column] > 0.5, weights[:, here])[0])
    stacked = np.stack(areas)
    present = ~np.isnan(stacked)
    total = np.where(present, stacked, 0.0).sum(0)
    mean: Floats = np.where(present.any(0), total / np.maximum(present.sum(0), 1), np.nan)
    return mean


def _differences(study: Study, areas: Mapping[Key, Areas]) -> list[dict[str, Any]]:
    """Each encoder against random weights, its probes against raw pixels, and the pairs of encoders of the plan.

    Per task, and as the mean over tasks where every task has a figure.
    """
    entries = []
    against: dict[str, list[str]] = {encoder: [REFERENCE, RAW] for encoder in study.plan.encoders}
    for encoder, other in study.plan.pairs():
        against[encoder].append(other)
    for fraction in study.plan.fractions:
        for encoder in study.plan.encoders:
            for measure in MEASURES:
                for reference in against[encoder]:
                    if reference == RAW and measure == "fine-tuned":
                        continue
                    paired = {
                        task: areas[task, fraction, encoder, measure].minus(areas[task, fraction, reference, measure])
                        for task in study.plan.tasks
                        if (task, fraction, encoder, measure) in areas
                    }
                    common = {"fraction": fraction, "encoder": encoder, "reference": reference, "measure": measure}
                    for task, entry in paired.items():
                        entries.append({"task": task, **common, "difference": entry.interval().as_dict()})
                    if len(paired) == len(study.plan.tasks) > 1:
                        mean = float(np.mean([entry.by_seed.mean() for entry in paired.values()]))
                        draws = np.mean([entry.draws for entry in paired.values()], axis=0)
                        entries.append({"task": ALL, **common, "difference": _interval(mean, draws).as_dict()})
    return entries


def _curve(known: Mapping[Cell, Any], row: tuple[str, float, str], seeds: Sequence[int]) -> dict[str, Any]:
    """The validation AUC over steps: mean, lowest and highest seed."""
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


def _convergence(
    study: Study, known: Mapping[Cell, Any], complete: Mapping[tuple[str, float], Sequence[int]]
) -> list[dict[str, Any]]:
    """Share of steps saved until 98% of the best validation AUC of random weights, per task, and over all tasks."""
    entries: list[dict[str, Any]] = []
    for fraction in study.plan.fractions:
        for encoder in study.plan.encoders:
            common = {"fraction": fraction, "encoder": encoder}
            everything: list[SpeedUp] = []
            for task in study.plan.tasks:
                pairs = [
                    speed_up(
                        known[Cell(task, encoder, fraction, seed)]["curve"],
                        known[Cell(task, REFERENCE, fraction, seed)]["curve"],
                    )
                    for seed in complete[task, fraction]
                ]
                if pairs:
                    entries.append({"task": task, **common, **_spread(pairs)})
                everything += pairs
            if everything:
                entries.append({"task": ALL, **common, **_spread(everything)})
    return entries


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


def _task(study: Study, name: str) -> dict[str, Any]:
    parts = study.parts[name]
    return {
        "labels": list(study.plan.tasks[name]),
        "classes": list(parts.train.classes),
        **{
            f"{split}_{what}": count
            for split, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
            for what, count in (
                ("images", len(part.indices)),
                ("patients", len(set(study.archive.patients(part.indices).tolist()))),
            )
        },
    }


def _labelled(known: Mapping[Cell, Any]) -> list[dict[str, Any]]:
    """How many images and patients each fraction gives to learn from, by seed."""
    found: dict[tuple[str, float], list[tuple[int, int]]] = {}
    for cell, result in known.items():
        if cell.encoder == REFERENCE:
            found.setdefault((cell.task, cell.fraction), []).append((result["images"], result["patients"]))
    return [
        {"task": task, "fraction": fraction, "images": [a for a, _ in pairs], "patients": [b for _, b in pairs]}
        for (task, fraction), pairs in found.items()
    ]


def _named(key: Key) -> dict[str, Any]:
    return dict(zip(("task", "fraction", "encoder", "measure"), key, strict=True))


def _interval(value: float, draws: Floats) -> Interval:
    return interval(value, draws, np.arange(2))
