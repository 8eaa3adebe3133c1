"""From the results of all cells to study.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from scoutview.study.areas import Key, all_areas, differences
from scoutview.study.between import task_differences, twins
from scoutview.study.cells import Study, read_error, read_result
from scoutview.study.choice import Tried, choose
from scoutview.study.convergence import convergence, curves
from scoutview.study.drawn import Drawn
from scoutview.study.frocs import all_frocs
from scoutview.study.plan import RAW, REFERENCE, STAGE1, Cell
from scoutview.study.robustness import robustness


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
    firsts = twins(study)
    areas, frocs = all_areas(study, known, complete, firsts), all_frocs(study, known, complete)
    return {
        "plan": study.plan.as_dict(),
        "architecture": study.like.architecture,
        "input_size": study.like.input_size,
        "cells": len(cells),
        "done": len(results),
        "failures": [
            {**asdict(cell), "error": error}
            for cell in cells
            if cell not in results and (error := read_error(cell.folder(study.out))) is not None
        ],
        "seconds": sum(result["seconds"] for result in results.values()),
        "tasks": {name: _task(study, name) for name in study.plan.tasks},
        "areas": _figures("auc", areas),
        "frocs": _figures("froc", frocs),
        "choices": [{**asdict(entry), "settings": study.plan.choices()[entry.choice]} for entry in tried],
        "differences": differences(study.plan, areas),
        "froc_differences": differences(study.plan, frocs),
        "task_differences": task_differences(study.plan, areas, complete, firsts),
        "curves": curves(study.plan, known, complete),
        "convergence": convergence(study.plan, known, complete),
        "robustness": robustness(study, known, complete),
        "labelled": _labelled(known),
    }


def _figures(name: str, figures: Mapping[Key, Drawn]) -> list[dict[str, Any]]:
    return [
        {
            **dict(zip(("task", "fraction", "encoder", "measure"), key, strict=True)),
            name: entry.interval().as_dict(),
            "by_seed": entry.by_seed.tolist(),
        }
        for key, entry in figures.items()
    ]


def _rows(study: Study, results: Mapping[Cell, Any], tried: Sequence[Tried]) -> dict[Cell, Any]:
    """The result of each row of the tables: its frozen probes, and the training with the settings that count."""
    chosen = {(entry.encoder, entry.fraction): entry.choice for entry in tried if entry.chosen}
    rows = {}
    for row in dict.fromkeys(replace(cell, choice=None) for cell in results if cell.encoder != STAGE1):
        probed = results.get(row)
        if row.encoder == RAW or study.plan.trains(row):
            rows[row] = probed
        elif (key := (row.encoder, row.fraction)) in chosen and (probed or not study.plan.tasks[row.task].probed):
            trained = results.get(replace(row, choice=chosen[key]))
            if trained is not None:
                rows[row] = {**trained, "scores": {**(probed["scores"] if probed else {}), **trained["scores"]}}
    return rows


def _complete_seeds(study: Study, known: Mapping[Cell, Any]) -> dict[tuple[str, float], list[int]]:
    return {
        (task, fraction): [
            seed
            for seed in range(study.plan.seeds)
            if all(Cell(task, encoder, fraction, seed) in known for encoder in study.plan.models(task))
        ]
        for task in study.plan.tasks
        for fraction in study.plan.fractions
    }


def _task(study: Study, name: str) -> dict[str, Any]:
    task, planned = study.tasks[name], study.plan.tasks[name]
    return {
        "task": planned.kind,
        "unit": task.unit,
        "labels": list(planned.labels),
        "classes": list(task.classes),
        **{
            f"{split}_{what}": count
            for split, part in task.parts.items()
            for what, count in (("images", len(part.patients)), ("patients", len(set(part.patients.tolist()))))
        },
    }


def _labelled(known: Mapping[Cell, Any]) -> list[dict[str, Any]]:
    """How many cases and patients each fraction gives to learn from, by seed."""
    found: dict[tuple[str, float], list[tuple[int, int]]] = {}
    for cell, result in known.items():
        if cell.encoder == REFERENCE:
            found.setdefault((cell.task, cell.fraction), []).append((result["images"], result["patients"]))
    return [
        {"task": task, "fraction": fraction, "images": [a for a, _ in pairs], "patients": [b for _, b in pairs]}
        for (task, fraction), pairs in found.items()
    ]
