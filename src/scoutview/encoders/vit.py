"""Vision transformers (Dosovitskiy et al. 2021) in the sizes of DeiT and DINO, for images of any size.

The input is one grey channel in [0, 1]; its features are those of the class token behind the last normalisation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.encoders.resnet import INPUT_DEVIATION, INPUT_MEAN
from scoutview.errors import UsageError

SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
"""Width and heads; all have twelve blocks."""
DEPTH, GRID = 12, 14
"""Blocks; side of the grid of position embeddings, that of an image of 224 px."""
PATCH = 16
"""px; sides of views and input sizes are multiples of it."""
_NAME = re.compile(rf"vit_({'|'.join(SIZES)})")


class TransformerBlock(nn.Module):
    """Attention and a perceptron of four times the width, each behind a normalisation and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[image, token, width] -> the same."""
        parts = self.queries_keys_values(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        result: Tensor = x + self.perceptron(self.norm2(x))
        return result


class VisionTransformer(nn.Module):
    """forward: [image, 1, row, column] in [0, 1], sides multiples of 16 px -> features [image, F]."""

    spatial_dims = 2
    patch = PATCH

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, PATCH, stride=PATCH)
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + GRID * GRID, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.features = width
        for parameter in (self.token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        grid = self.patches((x - INPUT_MEAN) / INPUT_DEVIATION)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), grid.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self._positions_of(grid.shape[2:])
        for block in self.blocks:
            tokens = block(tokens)
        features: Tensor = self.norm(tokens[:, 0])
        return features

    def _positions_of(self, shape: Sequence[int]) -> Tensor:
        """Position embeddings [1, token, width] of a grid of patches (rows, columns), bicubic from those of 224 px."""
        if tuple(shape) == (GRID, GRID):
            return self.positions
        grid = self.positions[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID))
        resized = F.interpolate(grid.float(), size=tuple(shape), mode="bicubic", antialias=True)
        return torch.cat([self.positions[:, :1], resized.to(grid.dtype).flatten(2).transpose(1, 2)], dim=1)


def make_vit(name: str) -> VisionTransformer:
    """Build a network by name: vit_tiny, vit_small or vit_base.

    Raises:
        UsageError: if the name is none of these.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"unknown encoder {name!r}: use {', '.join(f'vit_{size}' for size in SIZES)}")
    return VisionTransformer(*SIZES[match[1]])
