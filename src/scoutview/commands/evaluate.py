"""`scoutview evaluate`: a fine-tuned model on the test split, with intervals over patients."""

from __future__ import annotations

import json as encoding
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scoutview.batches import Archive
from scoutview.commands.against import check_pair, compare_runs
from scoutview.commands.comparison_tables import show_comparison
from scoutview.commands.detection_cases import evaluate_detection
from scoutview.commands.scored_cases import write_scored_cases
from scoutview.commands.terminal import cells, printable
from scoutview.errors import UsageError
from scoutview.files import finite, write_json
from scoutview.metrics import CaseScores, evaluate_scores
from scoutview.report import CASE_PAGE, write_report
from scoutview.tasks import (
    Evaluation,
    Shown,
    class_targets,
    evaluate_hemorrhage,
    evaluate_metastasis,
    load_classifier,
    predict,
    task_of,
)
from scoutview.tasks.inputs import cases_for, inputs_for, picture_of
from scoutview.training import device
from scoutview.training.run_folder import read_config


def evaluate(
    run: Path, store: Path, *, against: Path | None = None, robustness: bool = False, json: bool = False
) -> dict[str, Any]:
    """Evaluate a fine-tuned model on the test split of a store: AUC, AP and figures of its task with 95% intervals.

    Args:
        run: Folder of a fine-tuning run.
        store: Store with the labels of the model.
        against: Another run of the same task, to be compared with on the same cases: paired differences, and steps.
        robustness: Also compare how much the two move under transforms; of classifiers of images.
        json: End with one line of JSON for programs.

    Returns:
        The content of evaluation.json.

    Raises:
        UsageError: No such run, store or label, no labelled image in the test split, or a run that cannot be compared.
    """
    task = task_of(run)
    if against is not None:
        check_pair(task, run, against, robustness)
    elif robustness:
        raise UsageError("--robustness compares two models: add --against with another run")
    archive = Archive.open([store])
    evaluation = evaluation_of(task, run, archive)
    content = {**evaluation.content, "encoder": read_config(run)["encoder"]}
    if against is not None:
        both = evaluation, evaluation_of(task, against, archive)
        content["against"] = compare_runs(run, against, store, both, robustness)
    evaluation.save(run)
    if evaluation.shown is not None:
        write_scored_cases(run, content["label"], evaluation.shown)
    write_json(run / "evaluation.json", content)
    write_report([run], run / "report.html", "Fine-tuning report")
    table = Table(
        "figure",
        "value",
        "95% interval",
        title=Text(printable(f"{content['label']} on {content['n_images']} test {content.get('unit', 'image')}s")),
    )
    for name, figure in content["metrics"].items():
        table.add_row(*cells(name, f"{figure['value']:.3f}", f"{figure['low']:.3f} to {figure['high']:.3f}"))
    console = Console()
    console.print(table)
    if against is not None:
        show_comparison(console, content["against"])
    print(f"pages: {run / 'report.html'}, {run / CASE_PAGE}")
    if json:
        told = ("metrics", "n_images", "against")
        print(encoding.dumps(finite({key: content[key] for key in told if key in content})), flush=True)
    return content


def evaluation_of(task: str, run: Path, archive: Archive) -> Evaluation:
    """What a model of any task says of the test split."""
    match task:
        case "classification":
            return evaluate_classification(run, archive)
        case "chest_detection":
            return evaluate_detection(run, archive)
        case "hemorrhage_volume":
            return evaluate_hemorrhage(run, archive, device())
        case "metastasis_slices":
            return evaluate_metastasis(run, archive, device())
    raise UsageError(f"{run} holds a model for {task!r}, unknown to this version: upgrade scoutview")


def evaluate_classification(run: Path, archive: Archive) -> Evaluation:
    """AUC, AP and accuracy of a classifier; the other tasks have a function of this form."""
    model = load_classifier(run)
    cases = cases_for(model.encoder, archive)
    targets = class_targets(cases, model.labels, ("test",), model.classes)
    if not targets.indices:
        raise UsageError(
            f"no {cases.unit} of the test split is labelled with {', '.join(model.labels)}: "
            "add labels with scoutview label"
        )
    inputs = inputs_for(model.encoder, cases)
    model.encoder.network.to(device())
    model.head.to(device())
    scores, patients = predict(model, inputs, targets.indices, device()), cases.patients(targets.indices)
    label = ", ".join(model.labels)
    content = {
        "task": "classification",
        "label": label,
        "split": "test",
        "unit": cases.unit,
        "classes": list(model.classes),
        **evaluate_scores(scores, targets.values, patients, list(model.classes)),
    }
    told = CaseScores(model.classes, np.array(targets.indices), patients, scores, targets.values)
    shown = Shown(cases.unit, told, lambda case: picture_of(inputs, targets.indices[case]))
    return Evaluation(content, {label: told}, shown=shown)
