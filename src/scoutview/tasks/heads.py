"""What turns an encoder into a classifier: a linear layer on its features, with slices one on their maps, too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.encoders import Network, VisionTransformer


class SliceHead(nn.Module):
    """Logits of whole volumes from the encoder's features, those of slices from the maps of all its stages.

    A slice is described by the maximum and the mean of each map over its plane; maps of fewer slices are stretched to
    those of the input. One linear layer reads every slice, so that a labelled slice teaches all of them, and the early
    stages directly. The paper does not say what its slice head reads; one that reads the features of the volume must
    first learn where in the volume each of them comes from (docs/decisions/061-tasks-on-volumes.md).
    """

    def __init__(self, features: int, channels: Sequence[int], outputs: int, slices: int) -> None:
        super().__init__()
        self.slices = slices
        self.volume = nn.Linear(features, outputs) if outputs else None
        self.slice = nn.Linear(2 * sum(channels), 1)

    def forward(self, maps: Sequence[Tensor], features: Tensor) -> Tensor:
        """[volume, channel, slice', row, column] of each stage, [volume, F] -> logits [volume, output + slice]."""
        described = torch.cat([_of_slices(each, self.slices) for each in maps], dim=1)
        slices: Tensor = self.slice(described.transpose(1, 2))[..., 0]
        return slices if self.volume is None else torch.cat([self.volume(features), slices], dim=1)


Head = nn.Linear | SliceHead


def _of_slices(maps: Tensor, slices: int) -> Tensor:
    """[volume, channel, slice', row, column] -> [volume, 2 channel, slice]: maximum and mean of each plane."""
    # The gradient of max_pool3d is several times as fast as that of amax, which shares it out among equal pixels.
    largest = F.max_pool3d(maps, (1, *maps.shape[3:])).flatten(2)
    both = torch.cat([largest, maps.mean((3, 4))], dim=1)
    return F.interpolate(both, size=slices, mode="linear", align_corners=False)


def new_head(network: Network, outputs: int, slices: int = 0) -> Head:
    """A head with that many outputs; the last `slices` of them, if any, are those of the slices of a volume."""
    head: Head
    if slices:
        assert not isinstance(network, VisionTransformer)
        head = SliceHead(network.features, network.channels, outputs - slices, slices)
    else:
        head = nn.Linear(network.features, outputs)
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return head


def slices_of(head: Head) -> int:
    """How many outputs of a head are of slices."""
    return head.slices if isinstance(head, SliceHead) else 0


def read_out(network: Network, head: Head, inputs: Tensor) -> Tensor:
    """Inputs of an encoder -> logits [image or volume, class]."""
    if isinstance(head, SliceHead):
        assert not isinstance(network, VisionTransformer)
        maps = network.stages(inputs)
        sliced: Tensor = head(maps, network.pooled(maps[-1]))
        return sliced
    logits: Tensor = head(network(inputs))
    return logits
