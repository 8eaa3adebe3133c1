"""The projector between the encoder's features and the sphere on which prototypes live."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def at_least_fp32(x: Tensor) -> Tensor:
    """`x` in fp32, or as it is when it is wider: what must not be computed in bf16 or fp16 goes through here."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Projector(nn.Module):
    """Linear-BN-ReLU-Linear, then L2 normalisation (z of Eq. 1): [sample, features] -> unit vectors [sample, F]."""

    def __init__(self, features: int, hidden: int, projection: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, projection),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Project; the norm is taken in fp32 at least, whatever the precision of the layers."""
        return F.normalize(at_least_fp32(self.layers(features)), dim=1)
