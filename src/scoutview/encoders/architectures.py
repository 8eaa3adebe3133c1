"""Every network that can be an encoder, by name."""

from __future__ import annotations

import math

from torch import nn

from scoutview.encoders.densenet import DenseNet
from scoutview.encoders.resnet import LARGEST_WIDTH, ResNet, make_resnet
from scoutview.encoders.vit import VisionTransformer, make_vit
from scoutview.errors import UsageError

Network = ResNet | DenseNet | VisionTransformer
"""features: length F of its output. spatial_dims: 2 for [image, 1, row, column], 3 for [volume, 1, depth, row, column].
"""

InputSize = int | tuple[int, int, int]
"""What an encoder is shown: the side of a square in px, or (depth, rows, columns) of a volume."""

LARGEST_INPUT = 2**27
"""Voxels: 512 x 512 x 512, or a square of 11,585 px. A file that announces more is damaged, or means harm."""

_VOLUMES = "_3d"


def make_encoder(name: str) -> Network:
    """Build a network by name.

    resnet18, -34, -50, -101, -152, with a width as in resnet50w2 or resnet18w0.5, and vit_tiny, vit_small, vit_base for
    images; resnets with _3d, and densenet_3d, for volumes.

    Raises:
        UsageError: if the name is none of these.
    """
    if name == "densenet_3d":
        return DenseNet()
    if name.startswith("vit_"):
        return make_vit(name)
    try:
        return make_resnet(name.removesuffix(_VOLUMES), 3 if name.endswith(_VOLUMES) else 2)
    except UsageError as error:
        raise UsageError(
            f"unknown encoder {name!r}: use resnet18, resnet34, resnet50, resnet101 or resnet152, with a width if "
            f"wanted (resnet50w2, resnet18w0.5, up to {LARGEST_WIDTH}) and _3d for volumes (resnet18_3d), or "
            "densenet_3d, or vit_small"
        ) from error


def fits(network: Network, size: InputSize) -> bool:
    """Whether an input size is one for this network."""
    sides = (size, size) if not isinstance(size, tuple) else size
    if isinstance(size, tuple) != (network.spatial_dims == 3) or len(sides) != network.spatial_dims:
        return False
    if not all(type(side) is int and side > 0 for side in sides):
        return False
    divisor = network.patch if isinstance(network, VisionTransformer) else 1
    return math.prod(sides) <= LARGEST_INPUT and all(side % divisor == 0 for side in sides)


def stages_of(network: nn.Module) -> int:
    """How many stages a network has, for rates and freezing: the stem, each group of blocks, and what follows them."""
    return 1 + max(stage_of(network, name) for name, _ in network.named_parameters())


def stage_of(network: nn.Module, name: str) -> int:
    """The stage of a parameter or module by its name; 0 is the stem."""
    first, *rest = name.split(".")
    if isinstance(network, DenseNet | VisionTransformer):
        if first in ("last", "norm"):
            return len(network.blocks) + 1
        return int(rest[0]) + 1 if first == "blocks" and rest else 0
    return int(first.removeprefix("layer")) if first.startswith("layer") else 0
