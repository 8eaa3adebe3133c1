"""The page of a study, from study.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoutview.report import study_tables as tables
from scoutview.report.boxes import Box, box_plots, common_reach
from scoutview.report.curves import Line, Panel, Plot, Reference, over_steps
from scoutview.report.intervals import Estimates, common_span, interval_plot
from scoutview.report.study_tables import RANDOM, encoder_name
from scoutview.report.template import Table, fill
from scoutview.report.wording import counted, signed

_INKS = ("accent", "ct", "mr", "us", "other-1", "other-2", "other-3")


def write_study_report(folder: Path, path: Path) -> Path:
    """Write the page of a study folder; replaces `path` atomically and returns it."""
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return fill(
        "study.html",
        path,
        title="Study report",
        sentences=_sentences(study),
        failed=f"{counted(len(study['failures']), 'training')} failed",
        failures=tables.failures(study) if study["failures"] else None,
        fine_tuned=tables.fine_tuned(study),
        task_differences=tables.task_differences(study) if study["task_differences"] else None,
        froc=tables.froc(study),
        froc_differences=tables.froc_differences(study),
        panels_of_areas=_areas(study),
        differences=tables.differences(study),
        frozen=tables.frozen(study) if any(entry["measure"] != "fine-tuned" for entry in study["areas"]) else None,
        choices=tables.choices(study),
        convergence=tables.convergence(study),
        panels_of_curves=_curves(study),
        robustness=tables.robustness(study) if study["robustness"] else None,
        robustness_note=_robustness_note(study),
        panels_of_boxes=_boxes(study),
        tasks=tables.tasks(study),
        settings=Table(
            "", ("setting", "value"), [(key, _plain(value)) for key, value in study["plan"].items() if value]
        ),
    )


def _sentences(study: Mapping[str, Any]) -> list[str]:
    done, cells, failed = study["done"], study["cells"], len(study["failures"])
    sentences = [
        f"{counted(len(study['plan']['encoders']), 'encoder')} of {study['architecture']} at "
        f"{_size(study['input_size'])} px against random weights on {counted(len(study['tasks']), 'task')}, "
        f"{counted(study['plan']['seeds'], 'seed')}."
    ]
    if done + failed < cells:
        sentences.append(f"Only {done} of {cells} cells are done: the same command continues.")
    several = len(study["tasks"]) > 1
    extremes = {min(study["plan"]["fractions"]), max(study["plan"]["fractions"])}
    for entry in study["differences"]:
        figure = entry["difference"]
        if (
            entry["measure"] == "fine-tuned"
            and (entry["task"] == "mean over tasks") == several
            and entry["fraction"] in extremes
            and figure["low"] is not None
        ):
            verdict = "above" if figure["low"] > 0 else "below" if figure["high"] < 0 else "not told apart from"
            sentences.append(
                f"With {entry['fraction']:.0%} of the labels, {entry['encoder']} is {verdict} "
                f"{encoder_name(entry['reference'])} on {entry['task']}: {signed(figure)} AUC."
            )
    return sentences


def _areas(study: Mapping[str, Any]) -> list[Panel]:
    """One panel per task: the fine-tuned models as dots with intervals, by fraction."""
    entries = [entry for entry in study["areas"] if entry["measure"] == "fine-tuned"]
    span = common_span([entry["auc"] for entry in entries])
    panels = []
    for number, task in enumerate(study["tasks"]):
        rows = [
            Estimates(
                f"{entry['fraction']:.0%}, {encoder_name(entry['encoder'])}",
                [entry["auc"]],
                entry["encoder"] != RANDOM,
            )
            for entry in entries
            if entry["task"] == task
        ]
        drawn = interval_plot(rows, "AUC", f"areas-{number}-", span) if rows else None
        if drawn:
            panels.append(Panel(task, "Test AUC after fine-tuning, by share of the labels.", drawn))
    return panels


def _curves(study: Mapping[str, Any]) -> list[Panel]:
    """One panel per task and fraction: the mean validation AUC of every encoder over steps."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for curve in study["curves"]:
        groups.setdefault((curve["task"], curve["fraction"]), []).append(curve)
    inks = dict(zip([RANDOM, *study["plan"]["encoders"]], ("quiet", *_INKS), strict=False))
    panels = []
    for number, ((task, fraction), curves) in enumerate(groups.items()):
        lines = [
            Line(
                encoder_name(curve["encoder"]),
                inks.get(curve["encoder"], "ink"),
                "-",
                list(zip(curve["steps"], curve["mean"], strict=True)),
            )
            for curve in curves
        ]
        watched, chance = _watched(study["tasks"][task]["task"])
        plot = Plot(f"{task}, {fraction:.0%} of labels", f"{watched}, mean over seeds.", lines, chance)
        panels.append(over_steps(plot, f"curve-{number}-"))
    return panels


def _watched(kind: str) -> tuple[str, Reference | None]:
    """The figure of the curves of a task, and what chance reaches of it."""
    if kind == "chest_detection":
        return "Mean of validation AUC and fROC sensitivity", None
    return "Validation AUC", Reference(0.5, "chance")


def _size(value: int | Sequence[int]) -> str:
    return str(value) if isinstance(value, int) else " x ".join(map(str, value))


def _boxes(study: Mapping[str, Any]) -> list[Panel]:
    """One panel per task: the relative changes of every encoder as a box plot (the paper's Fig. 7)."""
    span = common_reach([entry["changes"] for entry in study["robustness"]])
    panels = []
    for number, task in enumerate(study["tasks"]):
        rows = [
            Box(encoder_name(entry["encoder"]), entry["changes"], entry["encoder"] != RANDOM)
            for entry in study["robustness"]
            if entry["task"] == task
        ]
        if rows:
            drawn = box_plots(rows, "relative change of the probability", f"boxes-{number}-", span)
            panels.append(Panel(task, "All cases, transforms, classes and seeds.", drawn))
    return panels


def _robustness_note(study: Mapping[str, Any]) -> str:
    if not study["robustness"]:
        return ""
    cases = sorted({entry["cases"] for entry in study["robustness"]})
    least, most = cases[0], cases[-1]
    entry = study["robustness"][0]
    return (
        f"{least if least == most else f'{least} to {most}'} test cases under {entry['transforms']} transforms, "
        f"fine-tuned with {entry['fraction']:.0%} of the labels"
    )


def _plain(value: Any) -> str:
    """A setting as JSON, without quotes around words."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")
