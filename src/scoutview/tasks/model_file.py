"""A classifier from labels to disk: its training, its encoder file, and the head beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError

from scoutview.batches import Archive
from scoutview.encoders import Encoder, load_encoder, save_encoder
from scoutview.errors import UsageError
from scoutview.tasks.classification import Classification, Classifier, new_classifier
from scoutview.tasks.finetuning import FinetuneSettings, Job
from scoutview.tasks.head_file import FILE, names_in, read_checked_head, read_head, write_head
from scoutview.tasks.heads import Head, new_head, slices_of
from scoutview.tasks.inputs import cases_for, inputs_for
from scoutview.tasks.labels import class_targets


def classification_job(
    archive: Archive, encoder: Encoder, labels: Sequence[str], settings: FinetuneSettings, device: str
) -> Job:
    """Training of a classifier on the labels of an archive; the other tasks have a function of this form.

    Raises:
        UsageError: if a label is missing or cannot be learnt, or a split has none of it.
    """
    cases = cases_for(encoder, archive)
    train = class_targets(cases, labels, ("train",))
    validation = class_targets(cases, labels, ("validation",), train.classes)
    model = new_classifier(encoder, labels, train, validation, settings.seed)
    return Job(
        task=Classification(model, inputs_for(encoder, cases), train, validation, settings, device),
        settings=settings,
        cases=f"{len(train.indices)} labelled {cases.unit}s, {len(validation.indices)} for validation",
        labels=tuple(labels),
        save=lambda run: save_classifier(model, run),
    )


def save_classifier(
    model: Classifier, run: Path, task: str = "classification", more: Mapping[str, str] | None = None
) -> None:
    """Write encoder.safetensors and head.safetensors into a run folder; `more` is kept with the head's metadata."""
    save_encoder(model.encoder, run / "encoder.safetensors")
    metadata = {
        "task": task,
        "labels": json.dumps(model.labels),
        "classes": json.dumps(model.classes),
        "exclusive": json.dumps(model.exclusive),
        "slices": json.dumps(slices_of(model.head)),
        **(more or {}),
    }
    write_head(run, model.head.state_dict(), metadata)


def task_of(run: Path) -> str:
    """The task of a fine-tuned model; every task leaves head.safetensors with its name as metadata, written last.

    Raises:
        UsageError: if the run holds no finished model.
    """
    path = run / FILE
    if not path.is_file():
        raise UsageError(f"{run} holds no fine-tuned model: make one with scoutview finetune")
    try:
        return str(read_head(run)[0].get("task"))
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is damaged ({error}): fine-tune again") from error


def load_classifier(run: Path) -> Classifier:
    """Load what `save_classifier` wrote.

    Raises:
        UsageError: if the run holds no finished classifier.
    """
    path = run / FILE
    if not path.is_file():
        raise UsageError(f"{run} holds no fine-tuned model: make one with scoutview finetune classification")
    encoder = load_encoder(run)

    def announced(told: Mapping[str, str]) -> Head:
        return new_head(encoder.network, len(names_in(told, "classes")), _slices(told, encoder))

    try:
        metadata, weights = read_checked_head(run, announced)
        labels, classes = (names_in(metadata, key) for key in ("labels", "classes"))
        exclusive = bool(json.loads(metadata["exclusive"]))
        head = announced(metadata)
        head.load_state_dict(weights)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged or does not fit its encoder ({error}): fine-tune again") from error
    return Classifier(encoder, head, labels, classes, exclusive)


def _slices(metadata: Mapping[str, str], encoder: Encoder) -> int:
    """How many of a head's outputs are of slices: none, or one for each of the encoder's input."""
    slices, size = json.loads(metadata["slices"]), encoder.input_size
    if slices not in (0, size[0] if isinstance(size, tuple) else 0):
        raise ValueError(f"{slices} slices are not those of an input of {encoder.input_size}")
    return int(slices)
