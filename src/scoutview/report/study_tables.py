"""The tables of a study's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scoutview.report.template import Table
from scoutview.report.wording import MISSING, estimate, score, signed

RANDOM = "none"
"""How study.json names random weights."""

MEASURES = ("fine-tuned", "linear", "neighbours")

Study = Mapping[str, Any]


def failures(study: Study) -> Table:
    """The cells without a result whose last try failed."""
    rows = [
        (
            entry["task"],
            f"{entry['fraction']:.0%}",
            entry["encoder"],
            str(entry["seed"]),
            _spaced(entry["choice"]),
            entry["error"],
        )
        for entry in study["failures"]
    ]
    return Table("", ("task", "labels", "encoder", "seed", "settings", "error"), rows)


def fine_tuned(study: Study) -> Table:
    """Test AUC after fine-tuning: a row per task and fraction, a column per encoder (the paper's Table II)."""
    return _by_encoder(study, "areas", "auc", "Test AUC")


def froc(study: Study) -> Table | None:
    """The fROC of detectors, as `fine_tuned`; None where nothing is detected."""
    title = "Test fROC: mean sensitivity at IoU 0.1"
    return _by_encoder(study, "frocs", "froc", title) if study["frocs"] else None


def froc_differences(study: Study) -> Table:
    """The paired differences of the fROC: a row per pair of models."""
    rows = [
        (
            entry["encoder"],
            encoder_name(entry["reference"]),
            f"{entry['fraction']:.0%}",
            entry["task"],
            signed(entry["difference"]),
        )
        for entry in study["froc_differences"]
    ]
    headers = ("model", "against", "labels", "task", "fine-tuned")
    return Table("Test fROC, difference [95% interval]", headers, rows)


def task_differences(study: Study) -> Table:
    """The paired differences between tasks of the same test cases."""
    rows = [
        (
            entry["task"],
            encoder_name(entry["encoder"]),
            entry["against"],
            encoder_name(entry["reference"]),
            f"{entry['fraction']:.0%}",
            signed(entry["difference"]),
        )
        for entry in study["task_differences"]
    ]
    headers = ("task", "model", "against task", "of", "labels", "fine-tuned")
    return Table("Test AUC, difference between tasks [95% interval]", headers, rows)


def _by_encoder(study: Study, entries: str, figure: str, title: str) -> Table:
    encoders = [RANDOM, *study["plan"]["encoders"]]
    found: dict[tuple[str, float], dict[str, str]] = {}
    for entry in study[entries]:
        if entry["measure"] == "fine-tuned":
            row = found.setdefault((entry["task"], entry["fraction"]), {})
            row[entry["encoder"]] = f"{estimate(entry[figure])}{_lost(study, entry)}"
    for entry in study["failures"] if entries == "areas" else ():
        found.setdefault((entry["task"], entry["fraction"]), {}).setdefault(entry["encoder"], "failed")
    rows = [
        (task, f"{fraction:.0%}", *(row.get(encoder, MISSING) for encoder in encoders))
        for (task, fraction), row in found.items()
    ]
    names = [encoder_name(encoder) for encoder in encoders]
    return Table(f"{title}, mean over classes and seeds [95% interval]", ("task", "labels", *names), rows)


def frozen(study: Study) -> Table:
    """Test AUC of the probes of frozen features, raw pixels among them."""
    found: dict[tuple[str, float, str], dict[str, str]] = {}
    for entry in study["areas"]:
        if entry["measure"] != "fine-tuned":
            row = found.setdefault((entry["task"], entry["fraction"], entry["encoder"]), {})
            row[entry["measure"]] = estimate(entry["auc"])
    rows = [
        (task, f"{fraction:.0%}", encoder_name(encoder), *(row.get(each, MISSING) for each in MEASURES[1:]))
        for (task, fraction, encoder), row in found.items()
    ]
    headers = ("task", "labels", "features", "linear probe", "nearest neighbours")
    return Table("Test AUC, mean over classes and seeds [95% interval]", headers, rows)


def differences(study: Study) -> Table:
    """Every paired difference: a row per pair of models, a column per measure."""
    found: dict[tuple[float, str, str, str], dict[str, str]] = {}
    for entry in study["differences"]:
        row = found.setdefault((entry["fraction"], entry["encoder"], entry["reference"], entry["task"]), {})
        row[entry["measure"]] = signed(entry["difference"])
    rows = [
        (encoder, encoder_name(reference), f"{fraction:.0%}", task, *(row.get(each, MISSING) for each in MEASURES))
        for (fraction, encoder, reference, task), row in found.items()
    ]
    return Table(
        "Test AUC, difference [95% interval]",
        ("model", "against", "labels", "task", "fine-tuned", "linear probe", "nearest neighbours"),
        rows,
    )


def choices(study: Study) -> Table | None:
    """What the search tried; None without one."""
    tried = [entry for entry in study["choices"] if entry["choice"] is not None]
    if not tried:
        return None
    rows = [
        (
            f"{entry['fraction']:.0%}",
            encoder_name(entry["encoder"]),
            _spaced(entry["choice"]),
            score(entry["validation_auc"]),
            str(entry["runs"]),
            "chosen" if entry["chosen"] else "",
        )
        for entry in tried
    ]
    headers = ("labels", "encoder", "settings", "validation AUC", "trainings", "")
    return Table("Best validation AUC, mean over tasks and seeds", headers, rows)


def convergence(study: Study) -> Table:
    """Steps saved by both definitions."""
    rows = [
        (
            entry["task"],
            f"{entry['fraction']:.0%}",
            entry["encoder"] + ("" if entry["same_schedule"] else " (another schedule)"),
            f"{entry['saved']:+.0%} (sd {entry['deviation']:.0%})",
            f"{entry['in_all']:+.0%}",
            str(entry["not_reached"]),
            f"{entry['own_best']['saved']:+.0%} (sd {entry['own_best']['deviation']:.0%})",
            f"{entry['own_best']['in_all']:+.0%}",
        )
        for entry in study["convergence"]
    ]
    headers = ("task", "labels", "encoder", "steps saved", "in all", "never there", "to its own best", "in all")
    return Table("", headers, rows)


def robustness(study: Study) -> Table:
    """Changes under transforms, beside the areas under them."""
    rows = []
    for entry in study["robustness"]:
        against = entry["minus_reference"]["median_change"]
        rows.append(
            (
                entry["task"],
                encoder_name(entry["encoder"]),
                estimate(entry["median_change"]),
                MISSING if entry["encoder"] == RANDOM else signed(against),
                estimate(entry["median_logit_change"]),
                estimate(entry["auc"]),
                estimate(entry["auc_transformed"]),
            )
        )
    headers = (
        "task",
        "encoder",
        "median |d|",
        "minus random weights",
        "|logit change|",
        "AUC",
        "transformed",
    )
    return Table("Mean over classes and seeds [95% interval]", headers, rows)


def tasks(study: Study) -> Table:
    """What there is to learn from and to test on."""
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
        rows.append((name, task["task"], ", ".join(task["classes"]), *counts, labelled))
    headers = ("name", "task", "classes", "train", "validation", "test", "labelled cases per fraction")
    return Table("Images, volumes or slices of patients (or groups that stay together)", headers, rows)


def encoder_name(name: str) -> str:
    """An encoder as readers write it."""
    return "random weights" if name == RANDOM else name


def _spaced(choice: str | None) -> str:
    return (choice or "").replace(",", ", ")


def _lost(study: Study, entry: Mapping[str, Any]) -> str:
    """Words about seeds that do not count, because some encoder has no result for them."""
    seeds = len(entry["by_seed"])
    return "" if seeds == study["plan"]["seeds"] else f" ({seeds} of {study['plan']['seeds']} seeds)"
