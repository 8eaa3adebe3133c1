"""What is exported: a run as one network with named outputs, and all that someone needs to use it without scoutview."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoutview.encoders import Encoder, InputSize, load_encoder
from scoutview.tasks import load_classifier, task_of
from scoutview.tasks.classification import Classifier
from scoutview.tasks.detection import Detector, load_detector
from scoutview.tasks.detection.decoding import OVERLAP, THRESHOLD
from scoutview.tasks.heads import read_out, slices_of

FORMAT = "scoutview-export-1"
INPUT = "images"
BOUND = 1e-4
"""The most by which an output of another tool may differ from the network's, see `scoutview.export.parity`."""


@dataclass(frozen=True)
class Output:
    """axes: names, the batch first. meaning: values and units, in words."""

    axes: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class ExportModel:
    """A network in evaluation mode, on the CPU, with what is needed to use it.

    task: encoder, or that of a fine-tuned model. network: images [batch, 1, row, column], or volumes
    [batch, 1, slice, row, column], in [0, 1] of `input_size` -> one tensor per entry of `outputs`, a single one as it
    is. classes: columns of its last axis, () for an encoder; exclusive: whether they are alternatives. layers: sizes
    that the architecture's name does not tell.
    """

    name: str
    run: Path
    task: str
    network: nn.Module
    encoder: Encoder
    input_size: InputSize
    outputs: Mapping[str, Output]
    classes: tuple[str, ...] = ()
    exclusive: bool = False
    layers: Mapping[str, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, without the batch: (1, row, column) or (1, slice, row, column)."""
        size = self.input_size
        return (1, *size) if isinstance(size, tuple) else (1, size, size)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the input's axes."""
        return ("batch", "channel", *(("slice",) if len(self.shape) == 4 else ()), "row", "column")


class ClassifierNetwork(nn.Module):
    """Encoder and head as one module: inputs in [0, 1] -> logits [batch, class]."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.encoder = model.encoder.network
        self.head = model.head

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return read_out(self.encoder, self.head, images)


class DetectorNetwork(nn.Module):
    """A detector up to its threshold: images -> scores [batch, location, class], boxes [batch, location, 4] in px."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.detector = model.network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A score is sqrt(class probability x centre-ness), as in `scoutview.tasks.detection.decode`."""
        found = self.detector(images)
        scores = (found.logits.sigmoid() * found.centerness.sigmoid()[..., None]).sqrt()
        points, distances = found.locations.points, found.distances
        return scores, torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


def open_model(source: Path) -> ExportModel:
    """The model of a run folder: the fine-tuned one if there is one, else its encoder; or that of an encoder file.

    Raises:
        UsageError: if there is none, or it is damaged.
    """
    if not (source / "head.safetensors").is_file():
        encoder = load_encoder(source)
        run = source if source.is_dir() else source.parent
        outputs = {"features": Output(("batch", "feature"), "the encoder's features, of no unit")}
        return _still(
            ExportModel(_name_of(source), run, "encoder", encoder.network, encoder, encoder.input_size, outputs)
        )
    task, name = task_of(source), _name_of(source)
    if task == "chest_detection":
        detector = load_detector(source)
        outputs = {
            "scores": Output(
                ("batch", "location", "class"),
                f"in [0, 1]; scores up to {THRESHOLD} are no findings, and of two boxes of a class with an IoU above "
                f"{OVERLAP} the lower one goes",
            ),
            "boxes": Output(("batch", "location", "side"), "left, top, right, bottom in px of the input"),
        }
        return _still(
            ExportModel(
                name=name,
                run=source,
                task=task,
                network=DetectorNetwork(detector),
                encoder=detector.encoder,
                input_size=detector.input_size,
                outputs=outputs,
                classes=detector.classes,
                layers={"width": detector.width, "depth": detector.depth},
            )
        )
    classifier = load_classifier(source)
    function = "softmax over the classes" if classifier.exclusive else "a sigmoid of each"
    outputs = {"logits": Output(("batch", "class"), f"probabilities are {function}")}
    return _still(
        ExportModel(
            name=name,
            run=source,
            task=task,
            network=ClassifierNetwork(classifier),
            encoder=classifier.encoder,
            input_size=classifier.encoder.input_size,
            outputs=outputs,
            classes=classifier.classes,
            exclusive=classifier.exclusive,
            layers={"slices": slices_of(classifier.head)},
        )
    )


def describe(model: ExportModel) -> dict[str, str]:
    """The metadata that every exported file carries, as texts; lists and mappings are JSON."""
    parts: dict[str, Any] = {
        "input": {"name": INPUT, "axes": model.axes, "shape": model.shape, "type": "float32", "range": [0.0, 1.0]},
        "outputs": {name: asdict(output) for name, output in model.outputs.items()},
        "classes": model.classes,
        "exclusive": model.exclusive,
        "layers": model.layers,
        "preprocessing": preprocessing_of(model),
        "provenance": model.encoder.provenance,
    }
    checked = (
        f"loaded again and compared with the network before it took its name: outputs differ by at most {BOUND:g}, "
        f"or {BOUND:g} of the largest output if that is above 1"
    )
    return {
        "format": FORMAT,
        "task": model.task,
        "architecture": model.encoder.architecture,
        **{name: json.dumps(value, sort_keys=True) for name, value in parts.items()},
        "parity": checked,
    }


def preprocessing_of(model: ExportModel) -> dict[str, Any]:
    """How stored values become the input, per modality; scoutview embed and predict do it."""
    curve = model.encoder.preprocessing
    square = "the long side fills the square" if len(model.shape) == 3 else "each slice is scaled to fit in"
    placed = f"{square}, aspect kept, downscaling without aliasing, centred, the rest is 0"
    if len(model.shape) == 4:
        placed += "; more slices than the input has are averaged, fewer lie in the middle as they are"
    if shows_head(model):
        return {"ct": "HU; the brain's box, axial; (HU + 45) / 200 clipped to [0, 1]", "placement": placed}
    percentiles = "(v - p0.5) / (p99.5 - p0.5) clipped to [0, 1]; percentiles of the whole image at full resolution"
    return {
        "ct": {
            "unit": "HU",
            "curve": "linear between knots",
            "hounsfield": curve.hounsfield,
            "level": curve.level,
        },
        "xray": f"{percentiles}; bright is dense; the window of the header first, where it has one",
        "mr": percentiles,
        "us": f"{percentiles}; grey",
        "placement": placed,
    }


def shows_head(model: ExportModel) -> bool:
    """Whether the input is the brain's box of a head CT."""
    otherwise = "head" if model.task == "hemorrhage_volume" else "whole"
    return len(model.shape) == 4 and model.encoder.provenance.get("volumes", otherwise) == "head"


def _name_of(source: Path) -> str:
    path = source.resolve()
    return path.name if path.is_dir() else path.stem


def _still(model: ExportModel) -> ExportModel:
    model.network.cpu().eval().requires_grad_(False)
    return model
