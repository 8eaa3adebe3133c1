"""Detection of findings in radiographs to the loop of `finetune_task`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from scoutview.encoders import Encoder, ResNet
from scoutview.errors import UsageError
from scoutview.metrics import ClassBoxes, MatchingRule, case_table, hits_of_class, mean_froc, roc_auc
from scoutview.tasks.detection.augmentation import DetectionAugmentation, change_boxes, change_images, draw_changes
from scoutview.tasks.detection.cases import DetectionCases
from scoutview.tasks.detection.decoding import Detections, decode
from scoutview.tasks.detection.letterbox import Letterbox, make_letterbox
from scoutview.tasks.detection.losses import detection_loss
from scoutview.tasks.detection.network import Fcos
from scoutview.tasks.detection.targets import assign_targets
from scoutview.tasks.finetuning import ENCODER, FinetuneSettings
from scoutview.tasks.inputs import Inputs

LARGEST_SIDE, DEEPEST = 2**13, 64
"""px of the input, and convolutions of a tower: a model file may announce no more."""
RULE = MatchingRule("iou", 0.1)
"""Of the fROC that is watched: findings without a sharp border are found well before their box is exact."""


@dataclass(frozen=True)
class DetectionSettings(FinetuneSettings):
    """How a detector is fine-tuned.

    Attributes:
        input_size: side in px of the square that an image is scaled into, its aspect kept.
        width: channels of the pyramid and the towers.
        depth: convolutions of each tower.
    """

    input_size: int = 512
    width: int = 256
    depth: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("input_size", "width", "depth"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} must be 1 or more")


@dataclass(frozen=True)
class Detector:
    """A detector with all that is needed to use it: network on squares of `input_size` px, names of the classes."""

    encoder: Encoder
    network: Fcos
    classes: tuple[str, ...]
    input_size: int
    width: int
    depth: int

    def letterbox(self, shape: tuple[int, int]) -> Letterbox:
        """Where an image of (rows, columns) px lies in the square."""
        return make_letterbox(*shape, self.input_size)


def new_detector(
    encoder: Encoder, classes: Sequence[str], input_size: int, width: int, depth: int, seed: int = 0
) -> Detector:
    """An encoder with a new pyramid and head.

    Raises:
        UsageError: if the encoder is no ResNet of images, or a size is none that a detector has.
    """
    if not isinstance(encoder.network, ResNet) or not isinstance(encoder.input_size, int):
        raise UsageError(
            f"{encoder.architecture} has no maps for a pyramid: give a ResNet encoder of images, such as resnet50"
        )
    if not (0 < input_size <= LARGEST_SIDE and width > 0 and 0 < depth <= DEEPEST):
        raise UsageError(
            f"no detector has an input of {input_size} px, a width of {width} and a depth of {depth}: use up to "
            f"{LARGEST_SIDE} px and a depth of up to {DEEPEST}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Fcos(encoder.network, len(classes), width, depth)
    return Detector(encoder, network, tuple(classes), input_size, width, depth)


@dataclass(frozen=True)
class Detection:
    """A detector to the loop of `finetune_task`; see `Task`."""

    model: Detector
    inputs: Inputs
    train: DetectionCases
    validation: DetectionCases
    settings: DetectionSettings
    device: str

    @property
    def cases(self) -> int:
        """Training images."""
        return len(self.train.indices)

    def modules(self) -> Mapping[str, nn.Module]:
        """Encoder, pyramid and head."""
        network = self.model.network
        return {ENCODER: network.encoder, "pyramid": network.pyramid, "head": network.head}

    @cached_property
    def weights(self) -> Tensor:
        """What each class counts in each training image [image, class], 0 where it is not known."""
        known = torch.from_numpy(self.train.known).float()
        return known * class_weights(self.train) if self.settings.class_weights else known

    def loss(self, cases: Sequence[int], generator: np.random.Generator) -> Tensor:
        """The loss of augmented images, none of whose boxes is cut (FCOS, Eq. 2)."""
        images = self.inputs.batch([self.train.indices[case] for case in cases]).to(self.device)
        shape = (self.model.input_size, self.model.input_size)
        boxes = [self._boxes(case) for case in cases]
        settings = self.settings
        ranges = DetectionAugmentation(settings.zoom, settings.shift, settings.gain, settings.bias)
        changes = draw_changes(ranges, boxes, shape, generator)
        moved = [change_boxes(own, changes, place, shape) for place, own in enumerate(boxes)]
        numbers = [torch.from_numpy(self.train.numbers[case]) for case in cases]
        outputs = self.model.network(change_images(images, changes))
        targets = assign_targets(outputs.locations, moved, numbers)
        parts = detection_loss(outputs, targets, self.weights[list(cases)].to(self.device))
        return parts.mean(parts.positives)

    def validate(self) -> dict[str, float]:
        """The mean of the AUC of cases and of the mean sensitivity of the fROC at IoU 0.1; and both.

        Alone, the AUC would not see where boxes lie, and the fROC of few findings moves in steps. What has no value
        (without an image that is known to be empty there is no AUC) is left out.
        """
        found = detect(self.model, self.inputs, self.validation, self.device)
        detections, truths = boxes_of(found), truths_of(self.validation)
        scores, targets = case_table(detections, truths, self.validation.known)
        hits = [
            hits_of_class(detections, truths, self.validation.known, number, RULE)
            for number in range(len(self.model.classes))
            if self.validation.known[:, number].any()
        ]
        aucs = [
            roc_auc(scores[known, number], targets[known, number] == 1)
            for number, known in enumerate(self.validation.known.T)
        ]
        usable = [auc for auc in aucs if auc == auc]
        parts = {"auc": float(np.mean(usable)) if usable else float("nan"), "froc": mean_froc(hits)}
        there = {name: value for name, value in parts.items() if value == value}
        return {"mean": float(np.mean(list(there.values()))), **there}

    def _boxes(self, case: int) -> Tensor:
        letterbox = self.model.letterbox(self.train.shapes[case])
        return torch.from_numpy(letterbox.into(self.train.boxes[case])).float()


def class_weights(cases: DetectionCases) -> Tensor:
    """What each class counts [class]: boxes of all / (number of classes * its boxes); without a box 1."""
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *cases.numbers]), minlength=len(cases.classes))
    weights = np.where(counts > 0, counts.sum() / (len(counts) * np.maximum(counts, 1)), 1.0)
    return torch.from_numpy(weights.astype(np.float32))


@torch.inference_mode()
def detect(model: Detector, inputs: Inputs, cases: DetectionCases, device: str, batch: int = 16) -> list[Detections]:
    """The detections of each image, in px of the image (float64), in evaluation mode."""
    model.network.train(False)
    found: list[Detections] = []
    for first in range(0, len(cases.indices), batch):
        letterboxes = [model.letterbox(shape) for shape in cases.shapes[first : first + batch]]
        outputs = model.network(inputs.batch(cases.indices[first : first + batch]).to(device))
        areas = torch.tensor([letterbox.area for letterbox in letterboxes])
        for one, letterbox in zip(decode(outputs, areas), letterboxes, strict=True):
            found.append(replace(one, boxes=torch.from_numpy(letterbox.back(one.boxes.numpy()))))
    return found


def boxes_of(found: Sequence[Detections]) -> ClassBoxes:
    """Detections as the measures take them."""
    return ClassBoxes.join(
        [one.boxes.numpy() for one in found],
        [one.classes.numpy() for one in found],
        [one.scores.double().numpy() for one in found],
    )


def truths_of(cases: DetectionCases) -> ClassBoxes:
    """Drawn boxes as the measures take them."""
    return ClassBoxes.join(cases.boxes, cases.numbers)
