"""`scoutview evaluate --against`: two fine-tuned models on the same test cases, and how soon each of them was there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scoutview.batches import Archive
from scoutview.errors import UsageError
from scoutview.metrics import MovedScores, compare_models, compare_robustness, own_speed_up, speed_up
from scoutview.store import read_annotations, rows_about
from scoutview.study.moved import transformed_probabilities
from scoutview.study.plan import Robustness
from scoutview.tasks import Evaluation, class_targets, load_classifier, task_of
from scoutview.tasks.head_file import read_head
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import device
from scoutview.training.run_folder import read_config, read_metrics

SEEN = ("train", "validation")


def check_pair(task: str, run: Path, other: Path, robustness: bool) -> None:
    """Refuse two runs that cannot be compared, before anything is computed.

    Raises:
        UsageError: if they are the same, or models for different things, or robustness is asked of a task without it.
    """
    if run.resolve() == other.resolve():
        raise UsageError(f"--against {other} is the run itself: give another one")
    theirs = task_of(other)
    if theirs != task:
        raise UsageError(f"{run} is a model for {task}, {other} for {theirs}: compare models of one task")
    if task != "hemorrhage_volume":  # of which two models may have some heads in common
        mine, those = (read_head(folder)[0] for folder in (run, other))
        for key in ("label", "labels", "classes"):
            if mine.get(key) != those.get(key):
                raise UsageError(
                    f"{run} has the {key} {mine.get(key)}, {other} {those.get(key)}: they must be the same, so compare "
                    "models of the same labels"
                )
    if task == "classification":
        kinds = [load_classifier(folder).encoder.network.spatial_dims for folder in (run, other)]
        if kinds[0] != kinds[1]:
            raise UsageError(f"one of {run} and {other} is a model of images, the other of volumes: compare two alike")
    if robustness and (task != "classification" or kinds[0] != 2):
        raise UsageError(f"--robustness is for classifiers of images, and {run} is none: leave it out")


def compare_runs(
    run: Path, other: Path, store: Path, evaluations: tuple[Evaluation, Evaluation], robustness: bool
) -> dict[str, Any]:
    """What evaluation.json of `run` says `against` another run; evaluations: of both, on the test split of the store.

    Raises:
        UsageError: if the models were not asked the same of the same cases, or one has learnt from test patients.
    """
    this, that = (evaluation.scores for evaluation in evaluations)
    first = next(iter(this))
    common = [name for name in this if name in that and this[name].same_cases(that[name])]
    if not common:
        raise UsageError(
            f"{run} ({', '.join(this)}) and {other} ({', '.join(that)}) have no test cases in common: "
            "compare models of the same label that read volumes in the same way"
        )
    patients = {patient for name in common for patient in this[name].patients.tolist()}
    for folder in (run, other):
        _check_unseen(folder, store, patients)
    found = {name: compare_models(this[name], that[name]) for name in common}
    convergence = convergence_of(run, other)
    left_out = [name for name in dict.fromkeys([*this, *that]) if name not in common]
    warnings = [f"{name} is left out: it is not in both, or not of the same cases" for name in left_out]
    content = {
        "run": str(other),
        "encoder": read_config(other)["encoder"],
        "metrics": {
            figure if name == first else f"{figure} of {name}": value
            for name, entry in found.items()
            for figure, value in entry["metrics"].items()
        },
        "per_class": {label: value for entry in found.values() for label, value in entry["per_class"].items()},
        "convergence": convergence,
        "warnings": warnings,
    }
    if not convergence:
        warnings.append("steps are not compared: the runs have no validation figure in common")
    elif not convergence["same_schedule"]:
        warnings.append("the runs differ in steps or batch size: what one saves is no merit of its encoder alone")
    return content | ({"robustness": robustness_of(run, other, Archive.open([store]))} if robustness else {})


def convergence_of(run: Path, other: Path) -> dict[str, Any]:
    """Steps of a run and of another until both definitions' level of the figure that was watched (spec section 7).

    {} where they have watched no figure, or not the same. reached: whether the run ever got to 98% of the other's best.
    """
    (watched, ours), (theirs, reference) = (watched_curve(folder) for folder in (run, other))
    if watched != theirs or not ours or not reference:
        return {}
    primary, own = speed_up(ours, reference), own_speed_up(ours, reference)
    schedules = [[read_config(folder).get(key) for key in ("steps", "batch_size")] for folder in (run, other)]
    return {
        "watched": watched,
        "this": primary.steps,
        "other": primary.reference,
        "saved": primary.saved,
        "reached": primary.reached,
        "own_best": {"this": own.steps, "other": own.reference, "saved": own.saved},
        "same_schedule": schedules[0] == schedules[1],
    }


def watched_curve(run: Path) -> tuple[str, list[tuple[int, float]]]:
    """(name, (step, value) pairs) of the first validation figure of a run: the one that chose its weights."""
    lines = [line for line in read_metrics(run) if any(key.startswith("validation_") for key in line)]
    name = next((key for line in lines for key in line if key.startswith("validation_")), "")
    curve = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return name.removeprefix("validation_"), curve


def robustness_of(run: Path, other: Path, archive: Archive) -> dict[str, Any]:
    """Both classifiers of images on some test cases, under the same transforms."""
    plan, moved = Robustness(), []
    for folder in (run, other):
        model = load_classifier(folder)
        test = class_targets(archive, model.labels, ("test",), model.classes)
        inputs = NetworkInputs(archive, model.encoder.preprocessing, model.encoder.image_side)
        model.encoder.network.to(device())
        model.head.to(device())
        moved.append(transformed_probabilities(model, inputs, test, plan))
    cases = np.array(moved[0]["cases"])
    one, two = (MovedScores(np.array(each["probabilities"]), np.array(each["transformed"])) for each in moved)
    patients = archive.patients([test.indices[case] for case in cases])
    return {
        "cases": len(cases),
        "transforms": plan.transforms,
        "metrics": compare_robustness(one, two, test.values[cases], patients),
    }


def _check_unseen(run: Path, store: Path, patients: set[str]) -> None:
    """Refuse test patients whom a model has learnt from in another store, as far as that is still there."""
    config = read_config(run)
    for source in _sources(run):
        if source.resolve() == store.resolve():  # of which a patient is in one split
            continue
        try:
            archive = Archive.open([source])
        except UsageError:  # it is no longer there
            continue
        held = archive.stores[0]
        names = set(config["label"])
        targets = {entry.target for entry in read_annotations(held) if entry.name in names}
        learnt = archive.find([row.image for row in rows_about(held, targets)], SEEN)
        seen = patients & set(archive.patients(learnt).tolist())
        if seen:
            raise UsageError(
                f"{run} was trained on {len(seen)} of the {len(patients)} test patients of {store}, which {source} has "
                "in another split: evaluate on a store without them"
            )


def _sources(run: Path) -> list[Path]:
    """The stores that a run was trained on, as its manifest names them; none where it is lost or damaged."""
    try:
        content: Mapping[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return [Path(entry["path"]) for entry in content.get("stores", ())]
