"""SimCLR (Chen et al. 2020): two views of an image find each other among those of the whole global batch (NT-Xent)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.encoders import Network, at_least_fp32
from scoutview.pretraining.labels import Labels
from scoutview.pretraining.method import Method, ViewNetwork
from scoutview.pretraining.settings import Settings
from scoutview.pretraining.swapped import global_mean
from scoutview.training import all_reduce, gather_samples


class SimclrNetwork(ViewNetwork):
    """Encoder and projector: Linear-BN-ReLU-Linear-BN as in the published code, then L2 normalisation."""

    def __init__(self, encoder: Network, hidden: int, projection: int) -> None:
        super().__init__(encoder)
        self.projector = nn.Sequential(
            nn.Linear(encoder.features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, projection, bias=False),
            nn.BatchNorm1d(projection),
        )

    def heads(self, features: Tensor, counts: Sequence[int]) -> Tensor:
        """Unit vectors [view, image, F]."""
        projections = self.projector(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return F.normalize(at_least_fp32(projections), dim=2)


class _Gather(torch.autograd.Function):
    """[view, image, F] of all ranks along the images; the gradient is the sum of what all ranks find for mine."""

    @staticmethod
    def forward(context: Any, block: Tensor, counts: list[int], rank: int) -> Tensor:
        context.counts, context.rank = counts, rank
        return gather_samples(block, counts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        summed = all_reduce(gradients[0].contiguous().clone())
        return summed.split(context.counts, dim=1)[context.rank], None, None


def contrastive_losses(projections: Tensor, everything: Tensor, first: int, temperature: float) -> Tensor:
    """NT-Xent of each image [image], the mean of its two views.

    projections [2, image, F]: unit vectors of this rank; everything [2, image of all ranks, F], of which those of this
    rank begin at `first`. -log of exp(z_i z_j / tau) over the sum of exp(z_i z_k / tau) over all k other than i, where
    j is the other view of i's image.
    """
    with torch.autocast(projections.device.type, enabled=False):
        count, total = projections.shape[1], everything.shape[1]
        logits = projections.flatten(0, 1) @ everything.flatten(0, 1).T / temperature
        own = torch.arange(count, device=logits.device) + first
        itself, other = torch.cat([own, own + total]), torch.cat([own + total, own])
        logits = logits.scatter(1, itself[:, None], float("-inf"))
        return F.cross_entropy(logits, other, reduction="none").view(2, count).mean(0)


class Simclr(Method):
    """No targets: images of the batch are compared with one another."""

    reported = ("loss", "feature_std")

    @classmethod
    def network_of(cls, settings: Settings, encoder: Network, labels: Labels | None = None) -> SimclrNetwork:
        """Encoder and projector."""
        return SimclrNetwork(encoder, settings.projector_hidden, settings.recipe.projection)

    def loss_of(self, outputs: Tensor, targets: None) -> Tensor:
        """NT-Xent, mean over the global batch."""
        sizes = [sum(row) for row in self.all_counts]
        everything = _Gather.apply(outputs, sizes, self.rank)  # type: ignore[no-untyped-call]
        losses = contrastive_losses(outputs, everything, sum(sizes[: self.rank]), self.recipe.temperature)
        self.means.add("loss", losses, self.counts)
        self.means.add_spread("feature_std", outputs[0], self.counts)
        return global_mean([losses], self.total, self.ranks)
