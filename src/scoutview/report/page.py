"""The page: runs read, figures drawn, one template filled, one file written (design sections 1 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from scoutview.errors import UsageError
from scoutview.report.classifier_curves import class_panels
from scoutview.report.comparison import compared
from scoutview.report.curves import training_panels
from scoutview.report.froc_curves import froc_panels
from scoutview.report.intervals import Estimates, common_span, interval_plot
from scoutview.report.read import Run, listing, mapping, read_run
from scoutview.report.sheets import data_uri
from scoutview.report.summary import (
    encoder_name,
    facts,
    label_name,
    last_figures,
    score_rows,
    sentences,
    warnings,
)
from scoutview.report.template import Table, fill
from scoutview.report.wording import MODALITY_NAMES, count, estimate, modality, series


@dataclass(frozen=True)
class Picture:
    """A sample sheet as a data URI, with a caption."""

    caption: str
    uri: str


@dataclass(frozen=True)
class Probe:
    """One label's probe: the table, and the same figures as dots with intervals."""

    name: str
    table: Table
    plot: Markup | None


def write_report(runs: Sequence[Path], path: Path, title: str) -> Path:
    """Write one HTML file about `runs`, pretraining and fine-tuning folders in the order they are told.

    The file needs no network and no script. Missing or torn files of a run become sentences on the page.
    Several fine-tuning runs are compared first. Replaces `path` atomically and returns it. Raises
    `UsageError` when `runs` is empty or one of them is not a folder.
    """
    if not runs:
        raise UsageError("a report needs at least one run folder; none were given")
    read = [read_run(folder) for folder in runs]
    return fill(
        "page.html",
        path,
        title=title,
        comparison=_comparison([run for run in read if run.kind == "finetune"]),
        runs=[_run(run, f"run{index}") for index, run in enumerate(read)],
    )


def _run(run: Run, prefix: str) -> dict[str, Any]:
    """What the template shows of one run."""
    figures, panels = last_figures(run), training_panels(run, f"{prefix}-curve")
    return {
        "id": prefix,
        "name": run.name,
        "kind": {"pretrain": "pretraining", "finetune": "fine-tuning"}[run.kind],
        "facts": facts(run),
        "sentences": sentences(run),
        "warnings": warnings(run),
        "problems": run.problems,
        "panels": panels,
        "last": Table(
            "At the last logged step",
            ("modality", "loss", "ln K", "code entropy", "prototypes used", "feature spread", "passes over the data"),
            figures,
        )
        if figures
        else None,
        "probes": _probes(run.probe, prefix),
        "evaluation": _evaluation(run.evaluation, prefix),
        "against": compared(run.evaluation),
        "views": _views(run.views),
        "settings": Table(
            "", ("setting", "value", "why"), [(item.name, item.value, item.reason) for item in run.settings]
        ),
    }


def _probes(probe: Mapping[str, Any], prefix: str) -> list[Probe]:
    probes = {name: mapping(item) for name, item in mapping(probe.get("probes")).items()}
    rows = {name: [mapping(row) for row in listing(item.get("rows"))] for name, item in probes.items()}
    measures = ("linear_auc", "knn_auc")
    span = common_span([row.get(key) for part in rows.values() for row in part for key in measures])
    return [
        Probe(
            name,
            Table(
                f"{name} ({modality(str(item.get('modality', '')))}): "
                f"classes {series([str(one) for one in listing(item.get('classes'))])}; "
                f"{count(item.get('bank_images'))} images to learn from, {count(item.get('test_images'))} test "
                f"images of {count(item.get('test_patients'))} patients",
                ("features", "linear AUC", "kNN AUC"),
                [[str(row.get("features", "")), *(estimate(row.get(key)) for key in measures)] for row in rows[name]],
            ),
            interval_plot(
                [
                    Estimates(
                        str(row.get("features", "")),
                        [row.get(key) for key in measures],
                        row.get("features") == "this encoder",
                    )
                    for row in rows[name]
                ],
                "AUC",
                f"{prefix}-probe{index}-",
                span,
            ),
        )
        for index, (name, item) in enumerate(probes.items())
    ]


CLASS_FIGURES = {
    "auc": "AUC",
    "ap": "average precision",
    "sensitivity": "sensitivity",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}


def _evaluation(evaluation: Mapping[str, Any], prefix: str) -> dict[str, Any] | None:
    if not evaluation:
        return None
    classes = {name: mapping(item) for name, item in mapping(evaluation.get("per_class")).items()}
    dropped = max(
        (
            int(mapping(item.get(key)).get("ignored_resamples") or 0)
            for item in (mapping(evaluation.get("metrics")), *classes.values())
            for key in ("auc", "ap", "accuracy", "sensitivity", "brier", "calibration_error")
        ),
        default=0,
    )
    unit = evaluation.get("unit", "image")
    over = evaluation.get("figures_of", "mean over classes" if len(classes) > 1 else "")
    return {
        "scores": Table(
            f"{evaluation.get('split', 'test')} {unit}s: {count(evaluation.get('n_images'))} of "
            f"{count(evaluation.get('n_patients'))} patients" + (f", {over}" if over else ""),
            ("measure", "value [95% interval]"),
            score_rows(evaluation),
        ),
        "classes": Table(
            "By class",
            ("class", *CLASS_FIGURES.values(), "positive images", "images"),
            [
                [
                    name,
                    *(estimate(item.get(key)) for key in CLASS_FIGURES),
                    count(item.get("positives")),
                    count(item.get("images")),
                ]
                for name, item in classes.items()
            ],
        ),
        "dropped": dropped,
        "panels": class_panels(evaluation, f"{prefix}-class") + froc_panels(evaluation, f"{prefix}-froc"),
    }


def _views(views: Sequence[Path]) -> list[Picture | str]:
    """A picture, or a sentence where the file is damaged; modalities in their usual order."""
    shown: list[Picture | str] = []
    usual = [*MODALITY_NAMES]
    for path in sorted(views, key=lambda path: ([*usual, path.stem].index(path.stem), path.stem)):
        uri = data_uri(path)
        shown.append(f"{path.name} is not a readable picture." if uri is None else Picture(modality(path.stem), uri))
    return shown


def _comparison(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Table and plot over fine-tuning runs, grouped by label in the order given; None for fewer than two."""
    if len(runs) < 2:
        return None
    labels = list(dict.fromkeys(label_name(run) for run in runs))
    ordered = sorted(runs, key=lambda run: labels.index(label_name(run)))
    aucs = [mapping(run.evaluation.get("metrics")).get("auc") for run in ordered]
    rows = [
        [
            label_name(run),
            encoder_name(run),
            run.name,
            estimate(auc),
            estimate(mapping(run.evaluation.get("metrics")).get("ap")),
            count(run.evaluation.get("n_images")),
            count(run.evaluation.get("n_patients")),
        ]
        for run, auc in zip(ordered, aucs, strict=True)
    ]
    estimates = [
        Estimates(f"{label_name(run)} · {encoder_name(run)}", [auc], encoder_name(run) != "none")
        for run, auc in zip(ordered, aucs, strict=True)
    ]
    headers = ("label", "encoder", "run", "AUC", "average precision", "images", "patients")
    return {
        "table": Table("Fine-tuned models on their test images", headers, rows),
        "plot": interval_plot(estimates, "AUC", "comparison-", common_span(aucs)),
    }
