"""One cell of the grid: fine-tune, probe the frozen features, keep the test scores of every image."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive
from scoutview.encoders import Encoder, is_foreign, open_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.files import write_json
from scoutview.study.fractions import labelled_part
from scoutview.study.moved import transformed_probabilities
from scoutview.study.plan import RAW, REFERENCE, Cell, StudyPlan
from scoutview.tasks import Targets, class_targets, finetune_classification, predict
from scoutview.tasks.frozen import RAW_SIZE, frozen_features, linear_scores, neighbour_scores, raw_pixels
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import RunFolder, device
from scoutview.training.run_folder import read_metrics

ERROR = "error.json"
"""What a cell that failed leaves beside where its result would be."""


@dataclass(frozen=True)
class TaskParts:
    """The images and targets of a task in each split; stratum [train image] numbers its combinations of classes."""

    train: Targets
    validation: Targets
    test: Targets
    stratum: npt.NDArray[np.int64]


def task_parts(archive: Archive, plan: StudyPlan) -> dict[str, TaskParts]:
    """The images and targets of every task.

    Raises:
        UsageError: if a label is missing or has too few values, or a split has no image with it.
    """
    found = {}
    for name, labels in plan.tasks.items():
        train = class_targets(archive, labels, ("train",))
        validation, test = (class_targets(archive, labels, (split,), train.classes) for split in ("validation", "test"))
        for split, part in (("train", train), ("validation", validation), ("test", test)):
            if not part.indices:
                raise UsageError(f"no image with {', '.join(labels)} is in split {split}")
        _, stratum = np.unique(np.nan_to_num(train.values, nan=-1.0), axis=0, return_inverse=True)
        found[name] = TaskParts(train, validation, test, stratum.reshape(-1))
    return found


class Study:
    """What all cells of a study share: archive, encoders, network inputs and targets, each read once."""

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
        self.inputs = NetworkInputs(self.archive, self.like.preprocessing, self.like.image_side)
        self.raw = NetworkInputs(self.archive, self.like.preprocessing, RAW_SIZE)
        self.kept: dict[tuple[str, int, tuple[int, ...]], npt.NDArray[np.float32]] = {}
        self.parts = task_parts(self.archive, plan)

    def _resized(self, encoder: Encoder) -> Encoder:
        return replace(encoder, input_size=self.plan.input_size or encoder.input_size)

    def _alike(self, name: str, encoder: Encoder) -> Encoder:
        """Published weights at the input size and preprocessing of the study; others as they are."""
        if name not in self.published:
            return encoder
        return replace(encoder, input_size=self.like.input_size, preprocessing=self.like.preprocessing)

    def labelled(self, cell: Cell) -> Targets:
        """The training targets of a cell: those of its fraction and seed, whatever its encoder."""
        parts = self.parts[cell.task]
        kept = labelled_part(self.archive.patients(parts.train.indices), parts.stratum, cell.fraction, cell.seed)
        places = np.flatnonzero(kept)
        indices = tuple(parts.train.indices[place] for place in places)
        return replace(parts.train, indices=indices, values=parts.train.values[places])

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
            return raw_pixels(self.raw, indices)
        return frozen_features(self.encoder(Cell("", encoder, 1.0, seed)), self.inputs, indices, device())


def run_cell(study: Study, cell: Cell) -> None:
    """Train or probe one cell, or both, and write its result.json; a cell that has one is left alone.

    A fine-tuning that was stopped goes on from its checkpoint. The weights are not kept: a study asks how good,
    `scoutview finetune` makes the model.
    """
    folder = cell.folder(study.out)
    if (folder / "result.json").exists():
        return
    started = time.monotonic()
    train = study.labelled(cell)
    content: dict[str, Any] = {
        **asdict(cell),
        "images": len(train.indices),
        "patients": len(set(study.archive.patients(train.indices).tolist())),
        "scores": {} if cell.choice else _frozen(study, cell, train),
    }
    if study.plan.trains(cell):
        _fine_tune(study, cell, train, content)
    content["seconds"] = round(content.get("seconds", 0.0) + time.monotonic() - started, 3)
    write_json(folder / "result.json", content)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _fine_tune(study: Study, cell: Cell, train: Targets, content: dict[str, Any]) -> None:
    """Add to a result: test scores, those under transforms, the validation curve, and seconds before a restart."""
    settings = study.plan.settings(cell.seed, cell.choice)
    parts, labels = study.parts[cell.task], study.plan.tasks[cell.task]
    run = RunFolder(cell.folder(study.out))
    run.prepare({**asdict(settings), "steps": settings.resolved_steps(len(train.indices)), **asdict(cell)}, {})
    model = finetune_classification(
        study.archive, study.encoder(cell), labels, train, parts.validation, settings, run, device(), study.inputs
    )
    run.close()
    content["seconds"] = run.seconds_before
    content["scores"]["fine-tuned"] = predict(model, study.inputs, parts.test.indices, device()).tolist()
    lines = [line for line in read_metrics(run.path) if "validation_auc" in line]
    content["curve"] = [(line["step"], line["validation_auc"]) for line in lines]
    if study.plan.robustness is not None and cell.fraction == max(study.plan.fractions):
        content["robustness"] = transformed_probabilities(model, study.inputs, parts.test, study.plan.robustness)


def _frozen(study: Study, cell: Cell, train: Targets) -> dict[str, Any]:
    """Test scores of the linear probe and of nearest neighbours."""
    parts = study.parts[cell.task]
    seed = cell.seed if cell.encoder == REFERENCE else 0
    whole = study.features(cell.encoder, seed, parts.train.indices)
    place = {index: number for number, index in enumerate(parts.train.indices)}
    bank = whole[[place[index] for index in train.indices]]
    validation, test = (study.features(cell.encoder, seed, part.indices) for part in (parts.validation, parts.test))
    linear = linear_scores(bank, train.values, validation, parts.validation.values, test, train.exclusive)
    neighbours = neighbour_scores(bank, train.values, test, train.exclusive)
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
