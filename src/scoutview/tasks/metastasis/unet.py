"""A small U-Net (Ronneberger et al. 2015): 5 adjacent slices -> the mask of the centre slice."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64, 128)
"""Channels at strides 1, 2, 4, 8; a lesion of a few px needs no more context than that."""
RARE = -4.6
"""Logit of a share of 1%: nearly all pixels are negative, which the network need not learn first."""


class UNet(nn.Module):
    """forward: [slice, channel, row, column] in [0, 1] -> logits [slice, 1, row, column].

    Normalises in groups of channels, so that a slice's mask does not depend on its batch. Any number of rows and
    columns from 8 on.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        befores = (channels, *WIDTHS[:-1])
        self.down = nn.ModuleList(_block(before, width) for before, width in zip(befores, WIDTHS, strict=True))
        self.up = nn.ModuleList(_block(width + below, width) for width, below in pairwise(WIDTHS))
        self.last = nn.Conv2d(WIDTHS[0], 1, 1)
        nn.init.constant_(self.last.bias, RARE)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        maps = []
        for stage, block in enumerate(self.down):
            x = block(x if stage == 0 else F.max_pool2d(x, 2))
            maps.append(x)
        for stage in reversed(range(len(self.up))):
            wide = F.interpolate(x, size=maps[stage].shape[-2:], mode="nearest")
            x = self.up[stage](torch.cat([maps[stage], wide], dim=1))
        result: Tensor = self.last(x)
        return result


def _block(before: int, width: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (before, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.GroupNorm(8, width), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)
