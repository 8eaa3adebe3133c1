"""Residual networks (He et al. 2016) in 2D and 3D, of any width, with parameter names as in torchvision's files.

Bottlenecks stride in their 3 x 3 convolution ("v1.5"); width multiplies every channel number as in SwAV's
ResNet-50w2 and -50w4, so resnet50w2 has 4096 features. The input is one grey channel in [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scoutview.errors import UsageError

DEPTHS: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
INPUT_MEAN, INPUT_DEVIATION = 0.5, 0.25
LARGEST_WIDTH = 16
"""Published ones go up to 5."""
_NAME = re.compile(r"resnet(18|34|50|101|152)(?:w(\d+(?:\.\d+)?))?")


def _layers(spatial_dims: int) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module], Callable[..., nn.Module]]:
    """Convolution, batch normalisation and max pooling for 2 or 3 spatial dimensions."""
    if spatial_dims == 2:
        return nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d
    return nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d


class Block(nn.Module):
    """A residual block: two 3 x 3 convolutions, or a 1-3-1 bottleneck with four times the channels at its end."""

    def __init__(self, before: int, channels: int, stride: int, bottleneck: bool, spatial_dims: int) -> None:
        super().__init__()
        convolution, normalisation, _ = _layers(spatial_dims)
        after = channels * 4 if bottleneck else channels
        if bottleneck:
            self.conv1 = convolution(before, channels, 1, bias=False)
            self.bn1 = normalisation(channels)
            self.conv2 = convolution(channels, channels, 3, stride=stride, padding=1, bias=False)
            self.bn2 = normalisation(channels)
            self.conv3 = convolution(channels, after, 1, bias=False)
            self.bn3 = normalisation(after)
        else:
            self.conv1 = convolution(before, channels, 3, stride=stride, padding=1, bias=False)
            self.bn1 = normalisation(channels)
            self.conv2 = convolution(channels, after, 3, padding=1, bias=False)
            self.bn2 = normalisation(after)
        self.bottleneck = bottleneck
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                convolution(before, after, 1, stride=stride, bias=False), normalisation(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[image, channel, ...] -> [image, channel', ...]."""
        residual = x if self.downsample is None else self.downsample(x)
        x = torch.relu_(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(torch.relu_(x)))
        return torch.relu_(x + residual)


class ResNet(nn.Module):
    """forward: [image, 1, (depth,) row, column] in [0, 1] -> features [image, F] after global average pooling.

    channels: of the maps of each of the four `stages`.
    """

    def __init__(self, depth: int, width: float = 1.0, spatial_dims: int = 2) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        convolution, normalisation, pooling = _layers(spatial_dims)
        counts, bottleneck = DEPTHS[depth]
        channels = [int(base * width) for base in (64, 128, 256, 512)]
        # In 3D the depth is padded by `stages`: oneDNN leaves stray memory in the weights' gradient where a kernel is
        # longer than the volume (seen with 6 slices on processors with AVX-512).
        padding = 3 if spatial_dims == 2 else (0, 3, 3)
        self.conv1 = convolution(1, channels[0], 7, stride=2, padding=padding, bias=False)
        self.bn1 = normalisation(channels[0])
        self.maxpool = pooling(3, stride=2, padding=1)
        before, after = channels[0], []
        for number, (count, size) in enumerate(zip(counts, channels, strict=True), start=1):
            blocks = []
            for place in range(count):
                stride = 2 if place == 0 and number > 1 else 1
                blocks.append(Block(before, size, stride, bottleneck, spatial_dims))
                before = size * 4 if bottleneck else size
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            after.append(before)
        self.channels = tuple(after)
        self.features = before
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: Tensor) -> list[Tensor]:
        """The feature maps of the four stages, at strides 4, 8, 16, 32."""
        x = (x - INPUT_MEAN) / INPUT_DEVIATION
        if self.spatial_dims == 3:
            x = nn.functional.pad(x, (0, 0, 0, 0, 3, 3))
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(x))))
        maps = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.pooled(self.stages(x)[-1])

    def pooled(self, maps: Tensor) -> Tensor:
        """The maps of the last stage -> features [image, F]."""
        return maps.flatten(2).mean(-1)


def make_resnet(name: str, spatial_dims: int = 2) -> ResNet:
    """Build a network by name: resnet18, -34, -50, -101, -152, with a width as in resnet50w2 or resnet18w0.5.

    Raises:
        UsageError: if the name is not of that form, or the network too narrow or too wide.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UsageError(
            f"unknown encoder {name!r}: use resnet18, resnet34, resnet50, resnet101 or resnet152, "
            "with a width if wanted (resnet50w2, resnet18w0.5)"
        )
    width = float(match[2] or 1)
    if not 1 / 64 <= width <= LARGEST_WIDTH:
        raise UsageError(f"{name} is {width:g} times as wide as its original: use 1/64 to {LARGEST_WIDTH}")
    return ResNet(int(match[1]), width, spatial_dims)
