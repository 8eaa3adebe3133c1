"""The projector between the encoder's features and the sphere on which prototypes live."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


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
        """Project; the norm is taken in fp32, whatever the precision of the layers."""
        return F.normalize(self.layers(features).float(), dim=1)
