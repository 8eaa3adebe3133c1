"""One cell of the grid: fine-tune, probe the frozen features, keep the test scores of every case."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive
from scoutview.encoders import Encoder, is_foreign, open_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.files import write_json
from scoutview.study.fractions import labelled_part
from scoutview.study.kinds import open_tasks
from scoutview.study.moved import transformed_probabilities
from scoutview.study.plan import RAW, REFERENCE, STAGE1, Cell, StudyPlan
from scoutview.study.tasks import Sources
from scoutview.tasks import Task, finetune_task
from scoutview.tasks import metastasis as slices
from scoutview.tasks.classification import Classification
from scoutview.tasks.frozen import frozen_features, linear_scores, neighbour_scores, raw_pixels
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import RunFolder, device
from scoutview.training.run_folder import read_metrics

ERROR = "error.json"
"""What a cell that failed leaves beside where its result would be."""


class Study:
    """What all cells of a study share: archive, encoders, network inputs and tasks, each read once."""

    def __init__(self, plan: StudyPlan, out: Path) -> None:
        self.plan, self.out = plan, out
        self.archive = Archive.open(plan.stores)
        opened = {name: self._resized(open_encoder(path)) for name, path in plan.encoders.items()}
        # The study is at the input size and preprocessing of what scoutview has trained, if it has any of that.
        self.published = {name for name, path in plan.encoders.items() if is_foreign(path)}
        self.like = opened[min(opened, key=lambda name: name in self.published)]
        self.encoders = {name: self._alike(name, encoder) for name, encoder in opened.items()}
        for name, encoder in self.encoders.items():
            for key in ("architecture", "input_size", "preprocessing"):
                mine, other = getattr(encoder, key), getattr(self.like, key)
                if mine != other:
                    raise UsageError(
                        f"encoder {name} has {key} {mine}, another of the study {other}: compare like with like"
                    )
            if encoder.provenance.get("volumes") != self.like.provenance.get("volumes"):
                raise UsageError(
                    f"encoder {name} was not pretrained as another of the study, of which one saw whole volumes, one "
                    "heads cropped to the brain: compare like with like"
                )
        self.sources = Sources(self.archive, self.like)
        self.kept: dict[tuple[str, int, tuple[int, ...]], npt.NDArray[np.float32]] = {}
        self.tasks = open_tasks(plan, self.sources)

    def _resized(self, encoder: Encoder) -> Encoder:
        try:
            return replace(encoder, input_size=self.plan.input_size or encoder.input_size)
        except ValueError as error:
            raise UsageError(f"study file: {error}") from error

    def _alike(self, name: str, encoder: Encoder) -> Encoder:
        """Published weights at the input size and preprocessing of the study; others as they are."""
        if name not in self.published:
            return encoder
        return replace(encoder, input_size=self.like.input_size, preprocessing=self.like.preprocessing)

    def labelled(self, cell: Cell) -> npt.NDArray[np.int64]:
        """Places of a cell's training cases: those of its fraction and seed, whatever its encoder."""
        task = self.tasks[cell.task]
        return np.flatnonzero(labelled_part(task.parts["train"].patients, task.stratum, cell.fraction, cell.seed))

    def encoder(self, cell: Cell) -> Encoder:
        """A fresh copy of the cell's network; random weights are drawn anew for every seed."""
        if cell.encoder == REFERENCE:
            return untrained_encoder(
                self.like.architecture, self.like.input_size, self.like.preprocessing, 1000 + cell.seed
            )
        return self._alike(cell.encoder, self._resized(open_encoder(self.plan.encoders[cell.encoder])))

    def features(self, encoder: str, seed: int, indices: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Frozen features [image, F], each computed once; only random weights depend on the seed."""
        key = (encoder, seed, indices)
        if key not in self.kept:
            self.kept[key] = self._features(encoder, seed, indices)
        return self.kept[key]

    def _features(self, encoder: str, seed: int, indices: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if encoder == RAW:
            return raw_pixels(self.sources.raw, indices)
        return frozen_features(self.encoder(Cell("", encoder, 1.0, seed)), self.sources.inputs, indices, device())


def run_cell(study: Study, cell: Cell) -> None:
    """Train or probe one cell, or both, and write its result.json; a cell that has one is left alone.

    A fine-tuning that was stopped goes on from its checkpoint. The weights are not kept, but for those of stage 1: a
    study asks how good, `scoutview finetune` makes the model.
    """
    folder = cell.folder(study.out)
    if (folder / "result.json").exists():
        return
    started = time.monotonic()
    places, task = study.labelled(cell), study.tasks[cell.task]
    content: dict[str, Any] = {
        **asdict(cell),
        "images": len(places),
        "patients": len(set(task.parts["train"].patients[places].tolist())),
        "scores": _frozen(study, cell, places) if task.probed and not cell.choice else {},
    }
    if cell.encoder == STAGE1 and task.stage1 is not None:
        task.stage1(places.tolist(), study.plan.settings(cell.task, cell.seed, None), folder)
    elif study.plan.trains(cell):
        _fine_tune(study, cell, places, content)
    content["seconds"] = round(content.get("seconds", 0.0) + time.monotonic() - started, 3)
    write_json(folder / "result.json", content)
    for left in [*folder.glob("checkpoints"), *folder.glob(f"{slices.STAGE1}/*/checkpoints")]:
        shutil.rmtree(left, ignore_errors=True)


def _fine_tune(study: Study, cell: Cell, places: npt.NDArray[np.int64], content: dict[str, Any]) -> None:
    """Add to a result: test scores, boxes, scores under transforms, the validation curve, seconds before a restart."""
    settings = study.plan.settings(cell.task, cell.seed, cell.choice)
    shared = Cell(cell.task, STAGE1, cell.fraction, cell.seed).folder(study.out)
    training = study.tasks[cell.task].training(study.encoder(cell), places.tolist(), settings, shared)
    run = RunFolder(cell.folder(study.out))
    run.prepare({**asdict(settings), "steps": settings.resolved_steps(len(places)), **asdict(cell)}, {})
    finetune_task(training.task, settings, run, device())
    run.close()
    content["seconds"] = run.seconds_before
    scores, boxes = training.test()
    content["scores"]["fine-tuned"] = scores.tolist()
    if boxes is not None:
        content["boxes"] = {name: values.tolist() for name, values in vars(boxes).items()}
    content["curve"] = [(line["step"], watched) for line in read_metrics(run.path) for watched in _watched(line)]
    if study.plan.robustness is not None and cell.fraction == max(study.plan.fractions):
        content["robustness"] = _robustness(study, cell, training.task)


def _watched(line: Mapping[str, Any]) -> list[float]:
    """The validation figure that decides, the first one, if a line of metrics.jsonl has any."""
    return [value for name, value in line.items() if name.startswith("validation_")][:1]


def _robustness(study: Study, cell: Cell, task: Task) -> dict[str, Any]:
    inputs, settings = study.sources.inputs, study.plan.robustness
    assert isinstance(task, Classification)
    assert isinstance(inputs, NetworkInputs)
    assert settings is not None
    return transformed_probabilities(task.model, inputs, study.tasks[cell.task].probed["test"], settings)


def _frozen(study: Study, cell: Cell, places: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Test scores of the linear probe and of nearest neighbours."""
    train, validation, test = study.tasks[cell.task].probed.values()
    seed = cell.seed if cell.encoder == REFERENCE else 0
    bank, chosen_on, query = (study.features(cell.encoder, seed, part.indices) for part in (train, validation, test))
    bank, values = bank[places], train.values[places]
    linear = linear_scores(bank, values, chosen_on, validation.values, query, train.exclusive)
    neighbours = neighbour_scores(bank, values, query, train.exclusive)
    return {"linear": linear.tolist(), "neighbours": neighbours.tolist()}


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a cell, None where there is none yet."""
    return _read(folder / "result.json")


def read_error(folder: Path) -> str | None:
    """Why a cell without a result failed, None where it has not been tried or has one."""
    content = None if (folder / "result.json").exists() else _read(folder / ERROR)
    return None if content is None else str(content["error"])


def _read(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
