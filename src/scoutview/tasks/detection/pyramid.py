"""The feature pyramid (Lin et al. 2017) with the levels P3 to P7 of FCOS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pyramid(nn.Module):
    """Maps of strides 8, 16 and 32 to five maps of `width` channels at strides 8 to 128.

    P6 and P7 are strided convolutions of P5 and of relu(P6).
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(number, width, 1) for number in channels)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.p6 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[image, channel, row, column] of three levels, finest first -> five levels."""
        merged = [lateral(level) for lateral, level in zip(self.lateral, maps, strict=True)]
        for place in range(len(merged) - 2, -1, -1):
            rows, columns = merged[place].shape[-2:]
            # Each pixel twice: place j of a strided map is place 2j of the finer one, also where that is odd.
            above = F.interpolate(merged[place + 1], scale_factor=2.0, mode="nearest")
            merged[place] = merged[place] + above[..., :rows, :columns]
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        levels.append(self.p6(levels[-1]))
        levels.append(self.p7(torch.relu(levels[-1])))
        return levels
