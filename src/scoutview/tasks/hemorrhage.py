"""Haemorrhage on head CT volumes (spec section 6): of a volume, of five types, and of each slice, by one network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.batches import Archive, LabelledVolumes
from scoutview.encoders import Encoder
from scoutview.errors import UsageError
from scoutview.metrics import CaseScores, evaluate_scores, roc_auc
from scoutview.preprocessing import NoBrainError
from scoutview.tasks.classification import (
    Classification,
    classification_loss,
    mean_auc,
    new_classifier,
    predict,
)
from scoutview.tasks.evaluation import CasePicture, Evaluation, Shown
from scoutview.tasks.finetuning import FinetuneSettings, Job
from scoutview.tasks.head_file import read_head
from scoutview.tasks.inputs import VolumeInputs, picture_of, volume_reader
from scoutview.tasks.labels import NEGATIVE, POSITIVE, Targets
from scoutview.tasks.model_file import load_classifier, save_classifier

TASK = "hemorrhage_volume"
TYPES = ("subarachnoid", "subdural", "epidural", "intraventricular", "intraparenchymal")

Head = Literal["volume", "types", "slices"]
HEADS: tuple[Head, ...] = ("volume", "types", "slices")


@dataclass(frozen=True)
class HemorrhageSettings(FinetuneSettings):
    """How a model for haemorrhage is fine-tuned, and on which labels.

    Attributes:
        batch_size: volumes per step.
        heads: what is learnt, all with one weight; the first of volume, types and slices that is there is watched.
        volume_label: whether there is any haemorrhage in a volume.
        type_labels: which types of it there are in a volume.
        slice_label: whether there is any in a slice; labels of whole series say nothing about slices.
        mirrored: chance that a volume is shown with left and right exchanged, of which no label here speaks.
    """

    batch_size: int = 8
    heads: tuple[Head, ...] = HEADS
    volume_label: str = "hemorrhage"
    type_labels: tuple[str, ...] = TYPES
    slice_label: str = "hemorrhage"
    mirrored: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.heads or len(set(self.heads)) < len(self.heads) or not set(self.heads) <= set(HEADS):
            raise UsageError(f"heads {list(self.heads)}: name some of {', '.join(HEADS)}, each once")
        if not 0 <= self.mirrored <= 1:
            raise UsageError(f"mirrored {self.mirrored} must lie in [0, 1]")
        if "types" in self.heads and not self.type_labels:
            raise UsageError("type_labels is empty: name labels of types, or leave types out of heads")

    def columns(self, depth: int) -> dict[str, list[str]]:
        """head -> names of its outputs, in the order in which they lie in the model's; depth: slices of its input."""
        names = {"volume": ["volume"], "types": [*self.type_labels], "slices": [f"slice {n + 1}" for n in range(depth)]}
        return {head: names[head] for head in HEADS if head in self.heads}


@dataclass(frozen=True)
class Hemorrhage(Classification):
    """A classifier whose head has the outputs of all heads. parts: where each one's lie."""

    inputs: VolumeInputs
    settings: HemorrhageSettings
    parts: Mapping[str, slice]

    def augmented(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """See `augment`; then a part of the volumes [volume, 1, slice, row, column] is mirrored."""
        moved = super().augmented(images, generator)
        if not self.settings.mirrored:
            return moved
        chosen = torch.from_numpy(generator.random(len(moved)) < self.settings.mirrored).to(moved.device)
        return torch.where(chosen.view(-1, 1, 1, 1, 1), moved.flip(-1), moved)

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the heads' losses."""
        return hemorrhage_loss(logits, targets, self.parts, self.weights)

    def validate(self) -> dict[str, float]:
        """The AUC of every head."""
        scores = predict(self.model, self.inputs, self.validation.indices, self.device)
        return {f"{head}_auc": _auc(head, scores, self.validation.values, part) for head, part in self.parts.items()}


def hemorrhage_loss(
    logits: Tensor, targets: Tensor, parts: Mapping[str, slice], weights: Tensor | None = None
) -> Tensor:
    """The sum over heads of the mean binary cross-entropy of a head's known outputs.

    targets [volume, output] in {0, 1}, NaN where unknown, as slices are that lie in the padding.
    """
    losses = [
        classification_loss(logits[:, part], targets[:, part], False, None if weights is None else weights[:, part])
        for part in parts.values()
    ]
    return torch.stack(losses).sum()


def _auc(head: str, scores: npt.NDArray[np.float64], values: npt.NDArray[np.float32], part: slice) -> float:
    """Of a head: the mean over types, or over all slices of all volumes together."""
    if head != "slices":
        return mean_auc(scores[:, part], values[:, part])
    known = ~np.isnan(values[:, part])
    area = roc_auc(scores[:, part][known], values[:, part][known] > 0.5)
    return area if area == area else 0.0


def hemorrhage_targets(
    cases: LabelledVolumes, inputs: VolumeInputs, settings: HemorrhageSettings, split: str
) -> tuple[Targets, int]:
    """(targets of the volumes of a split, how many were left out because no brain was found).

    A slice of the input is positive if a stored slice that it shows is, unknown if none is and one is not labelled, and
    if it shows none.

    Raises:
        UsageError: if a label is missing or has values other than 0 and 1.
    """
    columns = settings.columns(inputs.size[0])
    names = {"volume": (settings.volume_label,), "types": settings.type_labels, "slices": ()}
    known = {name: cases.labelled(name, (split,)) for head in columns for name in names[head]}
    candidates = {index for found in known.values() for index in found}
    if "slices" in columns:
        candidates |= set(cases.labelled(settings.slice_label, (split,)))
    said = {name: dict(zip(found, cases.label_values(name, found), strict=True)) for name, found in known.items()}
    indices, rows = [], []
    for index in sorted(candidates):
        try:
            shown = inputs.shown_slices(index)
        except NoBrainError:
            continue
        row = [_number(said[name].get(index), name) for head in columns for name in names[head]]
        if "slices" in columns:
            stored = [_number(v, settings.slice_label) for v in cases.slice_values(settings.slice_label, index)]
            row += slice_targets(np.array(stored), shown).tolist()
        indices.append(index)
        rows.append(row)
    classes = tuple(name for part in columns.values() for name in part)
    values = np.array(rows, dtype=np.float32).reshape(len(rows), len(classes))
    return Targets(classes, False, tuple(indices), values), len(candidates) - len(indices)


def _number(value: str | None, name: str) -> float:
    if value not in (POSITIVE, NEGATIVE, None):
        raise UsageError(f"label {name!r} has the value {value!r}: haemorrhage needs 0 and 1")
    return float("nan") if value is None else float(value)


def slice_targets(stored: npt.NDArray[np.float64], shown: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Targets [slice of the input] from those of stored slices and which of them each shows; see `WholeVolume`."""
    positive = (shown & (stored == 1)).any(1)
    unknown = (shown & np.isnan(stored)).any(1) | ~shown.any(1)
    return np.where(positive, 1.0, np.where(unknown, np.nan, 0.0))


def hemorrhage_job(
    archive: Archive, encoder: Encoder, labels: Sequence[str], settings: FinetuneSettings, device: str
) -> Job:
    """Training on the head CT volumes of an archive; an encoder that was not pretrained on volumes sees heads, too.

    Raises:
        UsageError: if the encoder is one of images, a label is missing, or a split has no volume.
    """
    assert isinstance(settings, HemorrhageSettings)
    if labels:
        raise UsageError(f"{TASK} takes its labels by --volume-label, --type-labels and --slice-label, not by --label")
    cases, inputs = hemorrhage_inputs(archive, encoder)
    task, without = hemorrhage_task(cases, inputs, encoder, settings, device)
    left_out = f"; {without} in which no brain is found are left out" if without else ""
    told: dict[str, Any] = {"heads": settings.heads, "type_labels": settings.type_labels}
    told |= {"volume_label": settings.volume_label, "slice_label": settings.slice_label}
    return Job(
        task=task,
        settings=settings,
        cases=f"{len(task.train.indices)} labelled volumes, {len(task.validation.indices)} for validation{left_out}",
        labels=task.model.labels,
        save=lambda run: save_classifier(task.model, run, TASK, {"settings": json.dumps(told)}),
    )


def hemorrhage_task(
    cases: LabelledVolumes, inputs: VolumeInputs, encoder: Encoder, settings: HemorrhageSettings, device: str
) -> tuple[Hemorrhage, int]:
    """(a new model on an encoder, with what it learns from, how many volumes were left out as without a brain).

    Raises:
        UsageError: if a label is missing, or a split has no volume.
    """
    (train, without), (validation, more) = (
        hemorrhage_targets(cases, inputs, settings, split) for split in ("train", "validation")
    )
    slices = inputs.size[0] if "slices" in settings.heads else 0
    model = new_classifier(encoder, _label_names(settings), train, validation, settings.seed, slices)
    parts = _parts(settings, inputs.size[0])
    return Hemorrhage(model, inputs, train, validation, settings, device, parts), without + more


def evaluate_hemorrhage(run: Path, archive: Archive, device: str) -> Evaluation:
    """Figures of the first head, AUCs of the others, all by output in `per_class`; scores by head.

    Slices are taken all together, as one class "slices".

    Raises:
        UsageError: if the run holds no finished model, or the test split no volume for it.
    """
    model = load_classifier(run)
    try:
        settings = _settings(json.loads(read_head(run)[0]["settings"]))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, UsageError) as error:
        raise UsageError(f"{run} holds no finished model of {TASK} ({error!r}): fine-tune again") from error
    cases, inputs = hemorrhage_inputs(archive, model.encoder)
    targets, left_out = hemorrhage_targets(cases, inputs, settings, "test")
    if not targets.indices:
        raise UsageError(
            f"no volume of the test split is labelled with {', '.join(model.labels)}: add labels with scoutview label"
        )
    model.encoder.network.to(device)
    model.head.to(device)
    scores = predict(model, inputs, targets.indices, device)
    found, told = {}, {}
    for head, names in settings.columns(inputs.size[0]).items():
        mine, values = (head_cases(head, table, settings, inputs) for table in (scores, targets.values))
        numbers, patients = np.array(targets.indices), cases.patients(targets.indices)
        if head == "slices":
            names = ["slices"]
            numbers, patients = (np.repeat(each, inputs.size[0]) for each in (numbers, patients))
        if not np.isnan(values).all():
            found[head] = evaluate_scores(mine, values, patients, names)
            told[head] = CaseScores(tuple(names), numbers, patients, mine.astype(np.float64), values)
    first, *others = found
    content = {
        "task": TASK,
        "label": ", ".join(model.labels),
        "split": "test",
        "unit": "slice" if first == "slices" else "volume",
        "figures_of": first,
        "without_brain": left_out,
        "classes": [name for entry in found.values() for name in entry["per_class"]],
        **found[first],
        "metrics": {
            **found[first]["metrics"],
            **{f"auc of {head}": found[head]["metrics"]["auc"] for head in others},
        },
        "per_class": {name: value for entry in found.values() for name, value in entry["per_class"].items()},
        "curves": {name: value for entry in found.values() for name, value in entry["curves"].items()},
    }
    patients, part = cases.patients(targets.indices), _parts(settings, inputs.size[0]).get("slices")
    every = CaseScores(targets.classes, np.array(targets.indices), patients, scores.astype(np.float64), targets.values)

    def picture(case: int) -> CasePicture:
        index = targets.indices[case]
        if part is None:
            return picture_of(inputs, index)
        filled = inputs.shown_slices(index).any(1)  # not the padding
        return picture_of(inputs, index, int(np.where(filled, scores[case, part], -1.0).argmax()))

    return Evaluation(content, told, shown=Shown("volume", every, picture))


def head_cases(
    head: str, table: npt.NDArray[np.floating[Any]], settings: HemorrhageSettings, inputs: VolumeInputs
) -> npt.NDArray[np.floating[Any]]:
    """The columns of a head in scores or targets [volume, output]; of slices one column, all of a volume in a row."""
    columns = table[:, _parts(settings, inputs.size[0])[head]]
    return columns.reshape(-1, 1) if head == "slices" else columns


def _settings(told: dict[str, Any]) -> HemorrhageSettings:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return HemorrhageSettings(**values)


def hemorrhage_inputs(archive: Archive, encoder: Encoder) -> tuple[LabelledVolumes, VolumeInputs]:
    """The volumes of an archive, and what an encoder is shown of them: heads, unless it was pretrained otherwise.

    Raises:
        UsageError: if the encoder is one of images, or there is no volume.
    """
    size = encoder.volume_size
    cases = LabelledVolumes.of(archive)
    return cases, VolumeInputs(volume_reader(encoder, cases, "head"), size)


def _parts(settings: HemorrhageSettings, depth: int) -> dict[str, slice]:
    columns = settings.columns(depth)
    ends = np.cumsum([len(names) for names in columns.values()]).tolist()
    return {head: slice(end - len(names), end) for (head, names), end in zip(columns.items(), ends, strict=True)}


def _label_names(settings: HemorrhageSettings) -> tuple[str, ...]:
    """The labels that are used, each once."""
    names = {"volume": (settings.volume_label,), "types": settings.type_labels, "slices": (settings.slice_label,)}
    return tuple(dict.fromkeys(name for head in settings.columns(0) for name in names[head]))
