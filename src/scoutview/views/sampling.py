"""Sampling canvases on grids of any scale and place, batched: two products with banded matrices for each grid."""

from __future__ import annotations

import torch
from torch import Tensor

from scoutview.views.canvas import UNIT
from scoutview.views.kernels import Bands, banded, kernel_tables, strides

PAIRS = {"cpu": 4, "cuda": 256}
"""Grids that are sampled together: what a CPU's cache holds, what fills a GPU."""


def sample(
    pixels: Tensor,
    starts: Tensor,
    widths: Tensor,
    reduced: Tensor,
    scale: Tensor,
    corner: Tensor,
    size: int,
    finest: float,
) -> Tensor:
    """Images resampled on square grids: [pair, size, size], about in [0, 1].

    pixels: of canvases, on the device; starts, widths [pair, level], reduced [pair]: see `ViewBatch`. scale [pair]: px
    of the grid per px of the image; corner [pair, 2]: of the grid, row and column, in its px. finest: the most px of
    the grid that a pixel of the level is wide that is taken.
    """
    device = pixels.device
    result = torch.empty(len(scale), size, size, device=device)
    highest = (starts >= 0).sum(1) - 1
    levels = torch.floor(torch.log2(finest / scale) + 1e-6).clamp_min(0.0).long().minimum(highest)
    for level in torch.unique(levels).tolist():
        pairs = (levels == level).nonzero().flatten()
        pairs = pairs[scale[pairs].argsort()]
        for chosen in pairs.split(16 * PAIRS[device.type]):
            relative = scale[chosen] * 2**level
            bands = Bands.make(size, float(relative.min()))
            # Pixel i of the grid is centred at (corner + i + 1/2) / scale, pixel n of the level at n + 1/2.
            middle = (corner[chosen] + 0.5) / relative[:, None] - 0.5
            packed = torch.cat([relative[:, None], middle], dim=1).to(device, non_blocking=True)
            tables = kernel_tables(packed[:, 0], level, reduced[chosen].to(device, non_blocking=True))
            down, top = banded(tables, packed[:, 0], packed[:, 1], bands)
            across, left = banded(tables, packed[:, 0], packed[:, 2], bands)
            first = starts[chosen, level].to(device, non_blocking=True)
            width = widths[chosen, level].to(device, non_blocking=True)
            first = first + top * width + left
            stride = strides(packed[:, 0], bands)
            down *= 1.0 / UNIT
            where = chosen.to(device, non_blocking=True)
            for begin in range(0, len(chosen), PAIRS[device.type]):
                span = slice(begin, begin + PAIRS[device.type])
                sampled = _products(pixels, first[span], width[span], stride[span], down[span], across[span], bands)
                result[where[span]] = sampled[:, :size, :size]
    return result


def _products(
    pixels: Tensor, first: Tensor, width: Tensor, stride: Tensor, down: Tensor, across: Tensor, bands: Bands
) -> Tensor:
    """[pair, position of a row, position of a column]."""
    pairs = len(first)
    window = _window(pixels, first, width, stride, bands)
    # [pair, block, row, column] x [pair, block, column, position] -> [pair, row, position]
    rows = torch.matmul(window, across.transpose(2, 3)).transpose(1, 2).reshape(pairs * bands.span, -1)
    order = torch.arange(bands.blocks, device=pixels.device)[:, None] * stride[:, None, None]
    order = (order + torch.arange(bands.width, device=pixels.device)).clamp_(max=bands.span - 1)
    order += bands.span * torch.arange(pairs, device=pixels.device)[:, None, None]
    parts = rows.index_select(0, order.flatten()).view(pairs, bands.blocks, bands.width, -1)
    return torch.matmul(down, parts).flatten(1, 2)


def _window(pixels: Tensor, first: Tensor, width: Tensor, stride: Tensor, bands: Bands) -> Tensor:
    """What grids see of a level, in overlapping blocks of columns: [pair, block, row, column] in [0, UNIT].

    A kernel may end before its matrix does: what lies behind the canvas has weight 0, and any value will do.
    """
    if pixels.device.type == "cpu":
        window = torch.empty(len(first), bands.blocks, bands.span, bands.width)
        for part, begin, line, step in zip(window, first.tolist(), width.tolist(), stride.tolist(), strict=True):
            rows = min(bands.span, (len(pixels) - begin - (bands.blocks - 1) * step - bands.width) // line + 1)
            part[:, :rows] = pixels.as_strided((bands.blocks, rows, bands.width), (step, line, 1), begin)
            part[:, rows:] = 0.0
        return window
    places = first[:, None, None, None] + stride[:, None, None, None] * _along(bands.blocks, 1, pixels.device)
    places = places + width[:, None, None, None] * _along(bands.span, 2, pixels.device)
    places = places + _along(bands.width, 3, pixels.device)
    return pixels[places.clamp_(0, len(pixels) - 1)].float()


def _along(count: int, axis: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device).view([count if place == axis else 1 for place in range(4)])
