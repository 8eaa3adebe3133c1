"""Classification of images or volumes: an encoder and one linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.batches import Cases
from scoutview.encoders import Encoder
from scoutview.errors import UsageError
from scoutview.metrics import roc_auc
from scoutview.tasks.finetuning import ENCODER, FinetuneSettings, finetune_task
from scoutview.tasks.heads import Head, new_head, read_out
from scoutview.tasks.inputs import Inputs, inputs_for
from scoutview.tasks.labels import Targets
from scoutview.training import RunFolder


@dataclass(frozen=True)
class Classifier:
    """An encoder with a head: [image, 1, row, column] -> logits [image, class], or of volumes."""

    encoder: Encoder
    head: Head
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    exclusive: bool

    def logits(self, inputs: Tensor) -> Tensor:
        """[image, class]."""
        return read_out(self.encoder.network, self.head, inputs)

    def train(self, mode: bool) -> None:
        """Training or evaluation mode of both parts."""
        self.encoder.network.train(mode)
        self.head.train(mode)


@dataclass(frozen=True)
class Classification:
    """A classifier to the loop of `finetune_task`; see `Task`."""

    model: Classifier
    inputs: Inputs
    train: Targets
    validation: Targets
    settings: FinetuneSettings
    device: str

    @property
    def cases(self) -> int:
        """Labelled training images."""
        return len(self.train.indices)

    def modules(self) -> Mapping[str, nn.Module]:
        """Encoder and head."""
        return {ENCODER: self.model.encoder.network, "head": self.model.head}

    def loss(self, cases: Sequence[int], generator: np.random.Generator) -> Tensor:
        """Cross-entropies of augmented images."""
        images = self.inputs.batch([self.train.indices[case] for case in cases]).to(self.device)
        logits = self.model.logits(self.augmented(images, generator))
        return self.loss_of(logits, torch.from_numpy(self.train.values[list(cases)]).to(self.device))

    def augmented(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """See `augment`."""
        return augment(images, self.settings, generator)

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `classification_loss`."""
        return classification_loss(logits, targets, self.train.exclusive, self.weights)

    @cached_property
    def weights(self) -> Tensor | None:
        """Of the classes, if they are to have any."""
        return class_weights(self.train).to(self.device) if self.settings.class_weights else None

    def validate(self) -> dict[str, float]:
        """The macro AUC."""
        scores = predict(self.model, self.inputs, self.validation.indices, self.device)
        return {"auc": mean_auc(scores, self.validation.values)}


def finetune_classification(
    cases: Cases,
    encoder: Encoder,
    labels: Sequence[str],
    train: Targets,
    validation: Targets,
    settings: FinetuneSettings,
    run: RunFolder,
    device: str,
    inputs: Inputs | None = None,
) -> Classifier:
    """Train on `train`, watch the macro AUC on `validation`, return the weights of its best step.

    Goes on from the newest checkpoint of the run. A pure function of its arguments on one device. inputs: of these
    cases at the encoder's size, if the caller has read them already.

    Raises:
        UsageError: if a part has no image.
    """
    model = new_classifier(encoder, labels, train, validation, settings.seed)
    inputs = inputs or inputs_for(encoder, cases)
    finetune_task(Classification(model, inputs, train, validation, settings, device), settings, run, device)
    return model


def new_classifier(
    encoder: Encoder, labels: Sequence[str], train: Targets, validation: Targets, seed: int, slices: int = 0
) -> Classifier:
    """An encoder with a new head for some targets, of which the last may be those of slices.

    Raises:
        UsageError: if a part has no image.
    """
    for name, part in (("train", train), ("validation", validation)):
        if not part.indices:
            unit = "image" if encoder.network.spatial_dims == 2 else "volume"
            raise UsageError(
                f"no {unit} of split {name} is labelled with {', '.join(labels)}: label more, or set a split column"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = new_head(encoder.network, len(train.classes), slices)
    return Classifier(encoder, head, tuple(labels), train.classes, train.exclusive)


def classification_loss(logits: Tensor, targets: Tensor, exclusive: bool, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, or binary cross-entropy over the known entries. targets [image, class], NaN = unknown.

    weights: of exclusive classes [class]; of findings those of their negatives and positives [2, class]. The loss is
    then the weighted mean.
    """
    if exclusive:
        return F.cross_entropy(logits.float(), targets.argmax(1), weight=weights)
    known = (~torch.isnan(targets)).float()
    filled = targets.nan_to_num()
    if weights is not None:
        known = known * torch.where(filled > 0.5, weights[1], weights[0])
    losses = F.binary_cross_entropy_with_logits(logits.float(), filled, reduction="none")
    total = known.sum()
    return (losses * known).sum() / torch.where(total > 0, total, 1.0)


def class_weights(targets: Targets) -> Tensor:
    """What each class counts: count of all / (number of classes * count of the class), as scikit-learn's "balanced".

    [class] of exclusive classes; of findings [2, class], their negatives and positives. A class without a case has 1.
    """
    known = ~np.isnan(targets.values)
    positive = np.where(known, targets.values > 0.5, False).sum(0)
    counts = positive[None] if targets.exclusive else np.stack([known.sum(0) - positive, positive])
    total = counts.sum(1, keepdims=True) if targets.exclusive else counts.sum(0, keepdims=True)
    kinds = counts.shape[1] if targets.exclusive else 2
    weights = np.where(counts > 0, total / (kinds * np.maximum(counts, 1)), 1.0).astype(np.float32)
    return torch.from_numpy(weights[0] if targets.exclusive else weights)


def augment(images: Tensor, settings: FinetuneSettings, generator: np.random.Generator) -> Tensor:
    """Random zoom, shift and linear intensity change of [image, 1, row, column]; what comes in from outside is 0.

    Volumes [volume, 1, slice, row, column] are moved within their planes.
    """
    count, axes = len(images), images.ndim - 2
    zoom = generator.uniform(*settings.zoom, count)
    shift = generator.uniform(-2 * settings.shift, 2 * settings.shift, (count, 2))
    matrices = np.tile(np.eye(axes, axes + 1, dtype=np.float32), (count, 1, 1))
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 / zoom
    matrices[:, :2, axes] = shift
    grid = F.affine_grid(torch.from_numpy(matrices).to(images.device), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    gain, bias = (
        torch.from_numpy(generator.uniform(*bounds, count).astype(np.float32)).to(images.device)
        for bounds in (settings.gain, settings.bias)
    )
    shape = (count,) + (1,) * (axes + 1)
    return moved * gain.view(shape) + bias.view(shape)


@torch.inference_mode()
def predict(model: Classifier, inputs: Inputs, indices: Sequence[int], device: str) -> npt.NDArray[np.float64]:
    """Probabilities [image or volume, class]: softmax over exclusive classes, else a sigmoid each."""
    model.train(False)
    scores, batch = [], model.encoder.at_once
    for first in range(0, len(indices), batch):
        logits = model.logits(inputs.batch(indices[first : first + batch]).to(device)).double()
        scores.append((logits.softmax(1) if model.exclusive else logits.sigmoid()).cpu().numpy())
    return np.concatenate(scores) if scores else np.zeros((0, len(model.classes)))


def mean_auc(scores: npt.NDArray[np.float64], targets: npt.NDArray[np.float32]) -> float:
    """Mean over classes of the AUC on the images where the class is known; NaN classes are left out."""
    aucs = []
    for column in range(targets.shape[1]):
        known = ~np.isnan(targets[:, column])
        aucs.append(roc_auc(scores[known, column], targets[known, column] > 0.5))
    usable = [auc for auc in aucs if auc == auc]
    return float(np.mean(usable)) if usable else 0.0
