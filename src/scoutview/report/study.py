"""The page of a study, from study.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from scoutview.report.curves import Line, Panel, Plot, Reference, over_steps
from scoutview.report.intervals import Estimates, common_span, interval_plot
from scoutview.report.template import Table, fill
from scoutview.report.wording import MISSING, estimate, score

RANDOM = "none"
"""How study.json names random weights."""
_INKS = ("accent", "other-1", "other-2", "other-3", "xray", "ct", "mr", "us")


def write_study_report(folder: Path, path: Path) -> Path:
    """Write the page of a study folder; replaces `path` atomically and returns it."""
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return fill(
        "study.html",
        path,
        title="Study report",
        sentences=_sentences(study),
        plot=_plot(study),
        plot_note="Test AUC after fine-tuning, with 95% intervals over patients and seeds.",
        choices=_choices(study),
        differences=_differences(study),
        areas=_areas(study),
        convergence=_convergence(study),
        panels_of_curves=_panels(study),
        tasks=_tasks(study),
        settings=Table("", ("setting", "value"), [(key, str(value)) for key, value in study["plan"].items()]),
    )


def _sentences(study: Mapping[str, Any]) -> list[str]:
    done, cells = study["done"], study["cells"]
    sentences = [
        f"{len(study['plan']['encoders'])} encoder(s) of {study['architecture']} at {study['input_size']} px against "
        f"random weights on {len(study['tasks'])} task(s), {study['plan']['seeds']} seeds."
    ]
    if done < cells:
        sentences.append(f"Only {done} of {cells} cells are done: the same command continues.")
    several = len(study["tasks"]) > 1
    for entry in study["differences"]:
        if entry["measure"] == "fine-tuned" and (entry["task"] == "mean over tasks") == several:
            figure, other = entry["difference"], _encoder(entry["reference"])
            verdict = "above" if figure["low"] > 0 else "below" if figure["high"] < 0 else "not told apart from"
            sentences.append(
                f"With {entry['fraction']:.0%} of the labels, {entry['encoder']} is {verdict} {other} on "
                f"{entry['task']}: {figure['value']:+.3f} AUC ({figure['low']:+.3f} to {figure['high']:+.3f})."
            )
    return sentences


def _plot(study: Mapping[str, Any]) -> Markup | None:
    rows = [entry for entry in study["areas"] if entry["measure"] == "fine-tuned"]
    estimates = [
        Estimates(
            f"{entry['task']} {entry['fraction']:.0%}, {entry['encoder']}", [entry["auc"]], entry["encoder"] != RANDOM
        )
        for entry in rows
    ]
    return interval_plot(estimates, "AUC", "areas-", common_span([entry["auc"] for entry in rows]))


def _differences(study: Mapping[str, Any]) -> Table:
    rows = []
    for entry in study["differences"]:
        figure = entry["difference"]
        rows.append(
            (
                entry["task"],
                f"{entry['fraction']:.0%}",
                f"{entry['encoder']}, {entry['measure']}",
                entry["reference"],
                f"{figure['value']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]",
            )
        )
    return Table("Test AUC, difference", ("task", "labels", "model", "against", "difference [95% interval]"), rows)


def _encoder(name: str) -> str:
    return "random weights" if name == RANDOM else name


def _choices(study: Mapping[str, Any]) -> Table | None:
    """What the search tried; None without one."""
    tried = [entry for entry in study["choices"] if entry["choice"] is not None]
    if not tried:
        return None
    rows = [
        (
            f"{entry['fraction']:.0%}",
            entry["encoder"],
            entry["choice"].replace(",", ", "),
            score(entry["validation_auc"]),
            str(entry["runs"]),
            "chosen" if entry["chosen"] else "",
        )
        for entry in tried
    ]
    headers = ("labels", "encoder", "settings", "validation AUC", "trainings", "")
    return Table("Best validation AUC, mean over tasks and seeds", headers, rows)


def _areas(study: Mapping[str, Any]) -> Table:
    found: dict[tuple[str, float, str], dict[str, str]] = {}
    for entry in study["areas"]:
        row = found.setdefault((entry["task"], entry["fraction"], entry["encoder"]), {})
        row[entry["measure"]] = estimate(entry["auc"])
    measures = ("fine-tuned", "linear", "neighbours")
    rows = [
        (task, f"{fraction:.0%}", encoder, *(row.get(measure, MISSING) for measure in measures))
        for (task, fraction, encoder), row in found.items()
    ]
    headers = ("task", "labels", "encoder", "fine-tuned", "linear probe", "nearest neighbours")
    return Table("Test AUC, mean over classes and seeds [95% interval]", headers, rows)


def _convergence(study: Mapping[str, Any]) -> Table:
    rows = [
        (
            entry["task"],
            f"{entry['fraction']:.0%}",
            entry["encoder"],
            f"{entry['saved']:+.0%}",
            f"{entry['deviation']:.0%}",
            f"{entry['in_all']:+.0%}",
            str(entry["not_reached"]),
        )
        for entry in study["convergence"]
    ]
    return Table(
        "", ("task", "labels", "encoder", "steps saved, mean", "sd over seeds", "in all", "never got there"), rows
    )


def _panels(study: Mapping[str, Any]) -> list[Panel]:
    """One panel per task and fraction: the mean validation AUC of every encoder over steps."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for curve in study["curves"]:
        groups.setdefault((curve["task"], curve["fraction"]), []).append(curve)
    inks = dict(zip([RANDOM, *study["plan"]["encoders"]], ("quiet", *_INKS), strict=False))
    panels = []
    for number, ((task, fraction), curves) in enumerate(groups.items()):
        lines = [
            Line(
                curve["encoder"],
                inks.get(curve["encoder"], "ink"),
                "-",
                list(zip(curve["steps"], curve["mean"], strict=True)),
            )
            for curve in curves
        ]
        plot = Plot(
            f"{task}, {fraction:.0%} of labels", "Validation AUC, mean over seeds.", lines, Reference(0.5, "chance")
        )
        panels.append(over_steps(plot, f"curve-{number}-"))
    return panels


def _tasks(study: Mapping[str, Any]) -> Table:
    rows = []
    for name, task in study["tasks"].items():
        labelled = "; ".join(
            f"{entry['fraction']:.0%}: {min(entry['images'])} to {max(entry['images'])}"
            for entry in study["labelled"]
            if entry["task"] == name
        )
        counts = [
            f"{task[f'{split}_images']} of {task[f'{split}_patients']}" for split in ("train", "validation", "test")
        ]
        rows.append((name, ", ".join(task["classes"]), *counts, labelled))
    headers = ("task", "classes", "train", "validation", "test", "labelled images per fraction")
    return Table("Images of patients (or groups that stay together)", headers, rows)
