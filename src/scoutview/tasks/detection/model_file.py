"""A detector from boxes to disk: its training, its encoder file, and pyramid and head beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from scoutview.batches import Archive
from scoutview.encoders import Encoder, load_encoder, save_encoder
from scoutview.errors import UsageError
from scoutview.tasks.detection.cases import DetectionCases, read_findings
from scoutview.tasks.detection.task import Detection, DetectionSettings, Detector, new_detector
from scoutview.tasks.finetuning import Job
from scoutview.tasks.head_file import FILE, names_in, read_checked_head, write_head
from scoutview.tasks.inputs import NetworkInputs

TASK = "chest_detection"
PARTS = ("pyramid", "head")


def detection_job(
    archive: Archive, encoder: Encoder, labels: Sequence[str], settings: DetectionSettings, device: str
) -> Job:
    """Training of a detector on the boxes of an archive's radiographs; all classes with boxes where none is named.

    Raises:
        UsageError: if a class has no box to learn from, there is none in the validation split, or the encoder is no
            ResNet.
    """
    train, validation = detection_cases(archive, labels)
    classes = train.classes
    model = new_detector(encoder, classes, settings.input_size, settings.width, settings.depth, settings.seed)
    inputs = NetworkInputs(archive, encoder.preprocessing, settings.input_size)
    count = len(train.indices)
    return Job(
        task=Detection(model, inputs, train, validation, settings, device),
        settings=settings,
        cases=f"{count} radiographs, {train.empty} of them without a box, {len(validation.indices)} for validation",
        labels=classes,
        save=lambda run: save_detector(model, run),
    )


def detection_cases(archive: Archive, labels: Sequence[str]) -> tuple[DetectionCases, DetectionCases]:
    """The training and validation images of some classes, of all that there are boxes of where none is named.

    Raises:
        UsageError: if a class has no box to learn from, or there is none in the validation split.
    """
    findings = read_findings(archive)
    drawn = findings.drawn(archive, ("train",))
    classes = tuple(labels) or drawn
    missing = sorted(set(classes) - set(drawn))
    if missing or not classes:
        what = f"no box of {missing[0]!r}" if missing else "no box at all"
        raise UsageError(
            f"{what} is in a radiograph of split train; boxes there: {', '.join(drawn) or 'none'}: "
            "add some with scoutview label, or name others with --label"
        )
    train, validation = (findings.cases(archive, classes, (split,)) for split in ("train", "validation"))
    if validation.empty == len(validation.indices):
        raise UsageError(
            f"no radiograph of split validation has a box of {', '.join(classes)}: add some, or set a split column"
        )
    return train, validation


def save_detector(model: Detector, run: Path) -> None:
    """Write encoder.safetensors and head.safetensors, with pyramid and head, into a run folder."""
    save_encoder(model.encoder, run / "encoder.safetensors")
    metadata = {
        "task": TASK,
        "classes": json.dumps(model.classes),
        "input_size": str(model.input_size),
        "width": str(model.width),
        "depth": str(model.depth),
    }
    weights = {
        f"{part}.{name}": value
        for part in PARTS
        for name, value in model.network.get_submodule(part).state_dict().items()
    }
    write_head(run, weights, metadata)


def load_detector(run: Path) -> Detector:
    """Load what `save_detector` wrote.

    Raises:
        UsageError: if the run holds no finished detector, or it is damaged.
    """
    path = run / FILE
    if not path.is_file():
        raise UsageError(f"{run} holds no detector: make one with scoutview finetune {TASK}")
    encoder = load_encoder(run)
    try:
        metadata, weights = read_checked_head(run, lambda told: _parts_of(_announced(encoder, told)))
        model = _announced(encoder, metadata)
        for part in PARTS:
            own = {name[len(part) + 1 :]: value for name, value in weights.items() if name.startswith(f"{part}.")}
            model.network.get_submodule(part).load_state_dict(own)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged or does not fit its encoder ({error}): fine-tune again") from error
    return model


def _announced(encoder: Encoder, metadata: Mapping[str, str]) -> Detector:
    sizes = (int(metadata[name]) for name in ("input_size", "width", "depth"))
    return new_detector(encoder, names_in(metadata, "classes"), *sizes)


def _parts_of(model: Detector) -> nn.Module:
    return nn.ModuleDict({part: model.network.get_submodule(part) for part in PARTS})
