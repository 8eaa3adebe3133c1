"""A fine-tuned model on images that are given one by one, through the same code as in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.encoders import Encoder, InputSize
from scoutview.errors import UsageError
from scoutview.tasks.classification import Classifier, predict
from scoutview.tasks.detection import DetectionCases, Detector, case_scores, detect, load_detector
from scoutview.tasks.detection.cases import MODALITY
from scoutview.tasks.inputs import Pixels
from scoutview.tasks.metastasis.job import TASK as METASTASIS
from scoutview.tasks.model_file import load_classifier, task_of
from scoutview.views import network_input

DETECTOR_BATCH = 8


@dataclass(frozen=True)
class FoundBox:
    """A box of an image, left, top, right, bottom in px, with its class and its score in (0.05, 1]."""

    name: str
    score: float
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class Found:
    """What a model says of an image or volume.

    probabilities: of each class; of a detector the score of the best box, 0 without one. boxes: by falling score.
    """

    probabilities: tuple[float, ...]
    boxes: tuple[FoundBox, ...] = ()


@dataclass(frozen=True)
class Given:
    """Network inputs that are there already; see `scoutview.tasks.inputs.Inputs`."""

    inputs: Sequence[Pixels]

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[image, 1, row, column], or of volumes."""
        return torch.from_numpy(np.stack([self.inputs[index] for index in indices])).unsqueeze(1)


@dataclass(frozen=True)
class Predictor:
    """A classifier or detector with its task, on a device."""

    model: Classifier | Detector
    task: str
    device: str

    @property
    def encoder(self) -> Encoder:
        """With the preprocessing of what the model is shown."""
        return self.model.encoder

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the probabilities."""
        return self.model.classes

    @property
    def batch(self) -> int:
        """How many images go through the network together."""
        return DETECTOR_BATCH if isinstance(self.model, Detector) else self.encoder.at_once

    @property
    def modality(self) -> str:
        """The only modality that the model takes, "" for any."""
        return MODALITY if isinstance(self.model, Detector) else ""

    def network_input(self, image: npt.NDArray[np.float32]) -> Pixels:
        """Of a unit-range image [row, column] or volume [slice, row, column]."""
        size: InputSize = self.model.input_size if isinstance(self.model, Detector) else self.encoder.input_size
        return network_input(image, size)

    def __call__(self, inputs: Sequence[Pixels], shapes: Sequence[tuple[int, int]]) -> list[Found]:
        """What the model says of each input; shapes: rows and columns in px of the images."""
        numbers = tuple(range(len(inputs)))
        if isinstance(self.model, Classifier):
            scores = predict(self.model, Given(inputs), numbers, self.device)
            return [Found(tuple(row.tolist())) for row in scores]
        known = np.zeros((len(inputs), len(self.classes)), dtype=np.bool_)
        cases = DetectionCases(self.classes, numbers, tuple(shapes), (), (), known)
        detections = detect(self.model, Given(inputs), cases, self.device, self.batch)
        best = case_scores(detections, len(self.classes)).double().tolist()
        return [
            Found(
                tuple(row),
                tuple(
                    FoundBox(self.classes[number], score, (box[0], box[1], box[2], box[3]))
                    for number, score, box in zip(
                        one.classes.tolist(), one.scores.double().tolist(), one.boxes.tolist(), strict=True
                    )
                ),
            )
            for row, one in zip(best, detections, strict=True)
        ]


def load_predictor(run: Path, device: str) -> Predictor:
    """The fine-tuned model of a run folder.

    Raises:
        UsageError: if there is none, it is damaged, or its task is not one of single files.
    """
    task = task_of(run)
    if task == "chest_detection":
        detector = load_detector(run)
        detector.network.to(device)
        return Predictor(detector, task, device)
    if task == METASTASIS:
        raise UsageError(f"{run} is of {task}, which needs the neighbours of a slice: use evaluate on a store")
    classifier = load_classifier(run)
    classifier.encoder.network.to(device)
    classifier.head.to(device)
    return Predictor(classifier, task, device)
