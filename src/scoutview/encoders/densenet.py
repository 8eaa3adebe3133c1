"""The 3D dense net of Ghesu et al. 2022, section IV-E, for head CT volumes.

Five dense blocks (Huang et al. 2017) of (1, 2, 3, 3, 3) units, a unit being Conv3d-BatchNorm-LeakyReLU whose 7 new
features are put behind all that the block has seen. The first two blocks look and shrink within slices only, so that
thick slices are not mixed before their pixels are as large as they are apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNITS = (1, 2, 3, 3, 3)
INITIAL, GROWTH, LAST = 16, 7, 512
IN_PLANE_BLOCKS = 2
SLOPE = 0.01
"""Of LeakyReLU below 0; torch's default."""
INPUT_MEAN, INPUT_DEVIATION = 0.5, 0.25


class Unit(nn.Sequential):
    """Conv3d-BatchNorm-LeakyReLU that keeps the size: [volume, before, ...] -> [volume, after, ...]."""

    def __init__(self, before: int, after: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(
            nn.Conv3d(before, after, kernel, padding="same", bias=False),
            nn.BatchNorm3d(after),
            nn.LeakyReLU(SLOPE, inplace=True),
        )


class DenseBlock(nn.Module):
    """Units that each see the block's input and what all units before made of it, then max pooling.

    pooling: window and stride per axis; a window that reaches over the end is that of what is there.
    """

    def __init__(self, before: int, units: int, kernel: tuple[int, int, int], pooling: tuple[int, int, int]) -> None:
        super().__init__()
        self.units = nn.ModuleList(Unit(before + GROWTH * place, GROWTH, kernel) for place in range(units))
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        """[volume, before, depth, row, column] -> [volume, before + 7 units, smaller]."""
        for unit in self.units:
            x = torch.cat([x, unit(x)], dim=1)
        window = [min(side, length) for side, length in zip(self.pooling, x.shape[2:], strict=True)]
        return F.max_pool3d(x, window, ceil_mode=True)


class DenseNet(nn.Module):
    """forward: [volume, 1, depth, row, column] in [0, 1], of any size -> features [volume, 1024].

    The features are the maximum and the mean of 512 maps; at 40 x 224 x 192 these are 5 x 7 x 6. channels: of the maps
    of each of the `stages`.
    """

    spatial_dims = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = Unit(1, INITIAL, (1, 3, 3))
        blocks, channels, after = [], INITIAL, []
        for number, units in enumerate(UNITS):
            depth = 1 if number < IN_PLANE_BLOCKS else 3
            blocks.append(DenseBlock(channels, units, (depth, 3, 3), (min(depth, 2), 2, 2)))
            channels += GROWTH * units
            after.append(channels)
        self.channels = tuple(after)
        self.blocks = nn.ModuleList(blocks)
        self.last = Unit(channels, LAST, (1, 1, 1))
        self.features = 2 * LAST
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def stages(self, x: Tensor) -> list[Tensor]:
        """The maps that leave the five blocks, at strides (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16), (8, 32, 32)."""
        x = self.stem((x - INPUT_MEAN) / INPUT_DEVIATION)
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.pooled(self.stages(x)[-1])

    def pooled(self, maps: Tensor) -> Tensor:
        """The maps that leave the last block -> features [volume, 1024]."""
        maps = self.last(maps).flatten(2)
        return torch.cat([maps.amax(-1), maps.mean(-1)], dim=1)
