"""Learning from labels alone (Eq. 6): a linear classifier on the encoder's features of the large crops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scoutview.encoders import Network
from scoutview.errors import UsageError
from scoutview.pretraining.labels import Labels, label_losses
from scoutview.pretraining.method import Method, ViewNetwork
from scoutview.pretraining.settings import Settings
from scoutview.training import all_reduce


class SupervisedNetwork(ViewNetwork):
    """Encoder and classifier; large: how many of the views, the first ones, are classified."""

    def __init__(self, encoder: Network, classes: int, large: int) -> None:
        super().__init__(encoder)
        self.large = large
        self.classifier = nn.Linear(encoder.features, classes)

    def heads(self, features: Tensor, counts: Sequence[int]) -> Tensor:
        """Logits [view, image, class]."""
        logits: Tensor = self.classifier(features[: self.large])
        return logits


class Supervised(Method):
    """Unlabelled images of the batch count for BatchNorm only."""

    reported = ("loss", "labelled")

    @classmethod
    def network_of(cls, settings: Settings, encoder: Network, labels: Labels | None = None) -> SupervisedNetwork:
        """Encoder and a classifier of the label's classes."""
        if labels is None:
            raise UsageError("method supervised needs a label: add --label NAME")
        return SupervisedNetwork(encoder, len(labels.classes), settings.recipe.crops[0])

    @torch.no_grad()
    def targets(self, views: Sequence[Tensor], outputs: Tensor, step: int, index: Tensor | None = None) -> Tensor:
        """[image, class], NaN where unknown."""
        assert self.labels is not None
        assert index is not None
        return self.labels.of(index, self.device)

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the labelled images of the global batch, 0 if there is none."""
        assert self.labels is not None
        losses, labelled = label_losses(outputs, targets, self.labels.exclusive)
        self.means.add("loss", losses, self.counts, labelled)
        self.means.add("labelled", labelled.float(), self.counts)
        count = all_reduce(labelled.sum().to(losses.dtype)).clamp_min(1.0)
        return losses.sum() * self.ranks / count
