"""Stage 2: five slices and their predicted mask -> 1 x 1 convolution -> three channels -> ResNet -> logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scoutview.encoders import Encoder
from scoutview.encoders.resnet import ResNet
from scoutview.errors import UsageError
from scoutview.tasks.classification import augment, class_weights, classification_loss, mean_auc
from scoutview.tasks.finetuning import ENCODER, FinetuneSettings
from scoutview.tasks.labels import Targets
from scoutview.tasks.metastasis.inputs import CENTRE, SLICES, SliceInputs, augment_both
from scoutview.tasks.metastasis.predicted import PredictedMasks

COLOURS = 3
SPREAD = 0.2
"""Deviation of the first weights of each of the three channels around their mean, which is the centre slice."""
_BATCH = 64


@dataclass(frozen=True)
class SliceClassifier:
    """encoder: its network takes three channels. entry: slices (and mask) to these. head: features to one logit."""

    encoder: Encoder
    entry: nn.Conv2d
    head: nn.Linear
    label: str

    def modules(self) -> dict[str, nn.Module]:
        """The parts that are trained."""
        return {ENCODER: self.encoder.network, "entry": self.entry, "head": self.head}

    def logits(self, inputs: Tensor) -> Tensor:
        """[slice, 5 slices (and mask), row, column] -> [slice, 1]."""
        result: Tensor = self.head(self.encoder.network(self.entry(inputs)))
        return result


@dataclass
class SliceChannels:
    """What the classifier sees. masks: set when stage 1 is done; None without a mask channel."""

    inputs: SliceInputs
    masks: PredictedMasks | None = None

    def read(self, cases: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """(slices [case, 5, row, column], masks [case, 1, row, column])."""
        return self.inputs.slices(cases), self.masks.batch(self.inputs, cases) if self.masks else None


@dataclass(frozen=True)
class SliceClassification:
    """Stage 2 to the loop of `finetune_task`; see `Task`."""

    model: SliceClassifier
    train: SliceChannels
    validation: SliceChannels
    settings: FinetuneSettings
    device: str

    @property
    def cases(self) -> int:
        """Training slices."""
        return len(self.train.inputs.cases)

    def modules(self) -> Mapping[str, nn.Module]:
        """Encoder, entry and head."""
        return self.model.modules()

    def loss(self, cases: Sequence[int], generator: np.random.Generator) -> Tensor:
        """Binary cross-entropy of augmented slices, whose masks are moved with them."""
        slices, masks = self.train.read(cases)
        inputs = slices.to(self.device)
        if masks is None:
            inputs = augment(inputs, self.settings, generator)
        else:
            inputs = torch.cat(augment_both(inputs, masks.to(self.device), self.settings, generator), dim=1)
        expected = torch.from_numpy(self.train.inputs.cases.targets[list(cases), None]).to(self.device)
        return classification_loss(self.model.logits(inputs), expected, False, self.weights)

    @cached_property
    def weights(self) -> Tensor | None:
        """Of slices without and with the finding, if they are to have any."""
        values = self.train.inputs.cases.targets[:, None]
        targets = Targets((self.model.label,), False, tuple(range(len(values))), values)
        return class_weights(targets).to(self.device) if self.settings.class_weights else None

    def validate(self) -> dict[str, float]:
        """The AUC over slices."""
        scores = predict_slices(self.model, self.validation, self.device)
        return {"auc": mean_auc(scores, self.validation.inputs.cases.targets[:, None])}


def new_slice_classifier(encoder: Encoder, label: str, mask_channel: bool, seed: int) -> SliceClassifier:
    """A classifier whose features are, before any training, those of the encoder on the centre slice.

    conv1 gets its weights a third each for three channels, and the mean of these channels is the centre slice; around
    it their weights are random, without which the three would stay equal. `encoder` is not changed.

    Raises:
        UsageError: if the encoder is no ResNet for images.
    """
    if not isinstance(encoder.network, ResNet) or encoder.network.spatial_dims != 2:
        raise UsageError(f"metastasis_slices needs a ResNet for images, not {encoder.architecture}")
    network = deepcopy(encoder.network)
    network.conv1 = _first_layer(network.get_parameter("conv1.weight").detach().repeat(1, COLOURS, 1, 1) / COLOURS)
    channels = SLICES + int(mask_channel)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        entry, head = nn.Conv2d(channels, COLOURS, 1), nn.Linear(network.features, 1)
        around = SPREAD * torch.randn(COLOURS, channels)
    weight = around - around.mean(0, keepdim=True)
    weight[:, CENTRE] += 1.0
    with torch.no_grad():
        entry.weight.copy_(weight[:, :, None, None])
        entry.bias.zero_()  # type: ignore[union-attr]
        head.bias.zero_()
    return SliceClassifier(replace(encoder, network=network), entry, head, label)


def grey_encoder(model: SliceClassifier) -> Encoder:
    """The encoder as a network of one channel: what it says of an image that is shown in all three."""
    network = deepcopy(model.encoder.network)
    assert isinstance(network, ResNet)
    network.conv1 = _first_layer(network.get_parameter("conv1.weight").detach().sum(1, keepdim=True))
    return replace(model.encoder, network=network)


def _first_layer(weight: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 7, stride=2, padding=3, bias=False)
    layer.weight = nn.Parameter(weight.clone())
    return layer


@torch.inference_mode()
def predict_slices(model: SliceClassifier, channels: SliceChannels, device: str) -> npt.NDArray[np.float64]:
    """Probabilities [case, 1]."""
    for module in model.modules().values():
        module.to(device).train(False)
    scores = []
    for first in range(0, len(channels.inputs.cases), _BATCH):
        cases = range(first, min(first + _BATCH, len(channels.inputs.cases)))
        inputs = torch.cat([part for part in channels.read(cases) if part is not None], dim=1)
        scores.append(model.logits(inputs.to(device)).double().sigmoid().cpu().numpy())
    return np.concatenate(scores)
