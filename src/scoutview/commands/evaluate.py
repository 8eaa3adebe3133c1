"""`scoutview evaluate`: a fine-tuned model on the test split, with intervals over patients."""

from __future__ import annotations

import json as encoding
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scoutview.batches import Archive
from scoutview.commands.detection_cases import evaluate_detection
from scoutview.commands.terminal import cells, printable
from scoutview.errors import UsageError
from scoutview.files import write_json
from scoutview.metrics import evaluate_scores
from scoutview.report import write_report
from scoutview.tasks import (
    class_targets,
    evaluate_hemorrhage,
    evaluate_metastasis,
    load_classifier,
    predict,
    task_of,
)
from scoutview.tasks.inputs import cases_for, inputs_for
from scoutview.training import device
from scoutview.training.run_folder import read_config


def evaluate(run: Path, store: Path, *, json: bool = False) -> dict[str, Any]:
    """Evaluate a fine-tuned model on the test split of a store: AUC, AP and figures of its task with 95% intervals.

    Args:
        run: Folder of a fine-tuning run.
        store: Store with the labels of the model.
        json: End with one line of JSON for programs.

    Returns:
        The content of evaluation.json.

    Raises:
        UsageError: No such run, store or label, or no labelled image in the test split.
    """
    task = task_of(run)
    content = {**evaluation_of(task, run, Archive.open([store])), "encoder": read_config(run)["encoder"]}
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
    Console().print(table)
    if json:
        print(encoding.dumps({"metrics": content["metrics"], "n_images": content["n_images"]}), flush=True)
    return content


def evaluation_of(task: str, run: Path, archive: Archive) -> dict[str, Any]:
    """What a model of any task says of the test split, as in evaluation.json."""
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


def evaluate_classification(run: Path, archive: Archive) -> dict[str, Any]:
    """AUC, AP and accuracy of a classifier; the other tasks have a function of this form."""
    model = load_classifier(run)
    cases = cases_for(model.encoder, archive)
    targets = class_targets(cases, model.labels, ("test",), model.classes)
    if not targets.indices:
        raise UsageError(f"no {cases.unit} with {', '.join(model.labels)} is in the test split")
    inputs = inputs_for(model.encoder, cases)
    model.encoder.network.to(device())
    model.head.to(device())
    scores = predict(model, inputs, targets.indices, device())
    return {
        "task": "classification",
        "label": ", ".join(model.labels),
        "split": "test",
        "unit": cases.unit,
        "classes": list(model.classes),
        **evaluate_scores(scores, targets.values, cases.patients(targets.indices), list(model.classes)),
    }
