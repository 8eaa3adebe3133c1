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
    sides: tuple[int, int],
    finest: float,
) -> Tensor:
    """Images resampled on grids of `sides` (rows, columns): [pair, row, column], about in [0, 1].

    pixels: of canvases, on the device; starts, widths [pair, level], reduced [pair]: see `ViewBatch`. scale [pair]: px
    of the grid per px of the image; corner [pair, 2]: of the grid, row and column, in its px. finest: the most px of
    the grid that a pixel of the level is wide that is taken.
    """
    device = pixels.device
    result = torch.empty(len(scale), *sides, device=device)
    highest = (starts >= 0).sum(1) - 1
    levels = torch.floor(torch.log2(finest / scale) + 1e-6).clamp_min(0.0).long().minimum(highest)
    for level in torch.unique(levels).tolist():
        pairs = (levels == level).nonzero().flatten()
        pairs = pairs[scale[pairs].argsort()]
        for chosen in pairs.split(16 * PAIRS[device.type]):
            relative = scale[chosen] * 2**level
            least = float(relative.min())
            bands = Bands.make(sides[0], least), Bands.make(sides[1], least)
            # Pixel i of the grid is centred at (corner + i + 1/2) / scale, pixel n of the level at n + 1/2.
            middle = (corner[chosen] + 0.5) / relative[:, None] - 0.5
            packed = torch.cat([relative[:, None], middle], dim=1).to(device, non_blocking=True)
            tables = kernel_tables(packed[:, 0], level, reduced[chosen].to(device, non_blocking=True))
            down, top = banded(tables, packed[:, 0], packed[:, 1], bands[0])
            across, left = banded(tables, packed[:, 0], packed[:, 2], bands[1])
            first = starts[chosen, level].to(device, non_blocking=True)
            width = widths[chosen, level].to(device, non_blocking=True)
            first = first + top * width + left
            stride = torch.stack([strides(packed[:, 0], part) for part in bands], dim=1)
            down *= 1.0 / UNIT
            where = chosen.to(device, non_blocking=True)
            for begin in range(0, len(chosen), PAIRS[device.type]):
                span = slice(begin, begin + PAIRS[device.type])
                sampled = _products(pixels, first[span], width[span], stride[span], down[span], across[span], bands)
                result[where[span]] = sampled[:, : sides[0], : sides[1]]
    return result


def _products(
    pixels: Tensor,
    first: Tensor,
    width: Tensor,
    stride: Tensor,
    down: Tensor,
    across: Tensor,
    bands: tuple[Bands, Bands],
) -> Tensor:
    """[pair, position of a row, position of a column]."""
    pairs, rows, columns = len(first), *bands
    window = _window(pixels, first, width, stride[:, 1], rows.span, columns)
    # [pair, block, row, column] x [pair, block, column, position] -> [pair, row, position]
    lines = torch.matmul(window, across.transpose(2, 3)).transpose(1, 2).reshape(pairs * rows.span, -1)
    order = torch.arange(rows.blocks, device=pixels.device)[:, None] * stride[:, :1, None]
    order = (order + torch.arange(rows.width, device=pixels.device)).clamp_(max=rows.span - 1)
    order += rows.span * torch.arange(pairs, device=pixels.device)[:, None, None]
    parts = lines.index_select(0, order.flatten()).view(pairs, rows.blocks, rows.width, -1)
    return torch.matmul(down, parts).flatten(1, 2)


def _window(pixels: Tensor, first: Tensor, width: Tensor, stride: Tensor, span: int, bands: Bands) -> Tensor:
    """What grids see of a level, `span` rows in overlapping blocks of columns: [pair, block, row, column] in [0, UNIT].

    A kernel may end before its matrix does: what lies behind the canvas has weight 0, and any value will do.
    """
    if pixels.device.type == "cpu":
        window = torch.empty(len(first), bands.blocks, span, bands.width)
        for part, begin, line, step in zip(window, first.tolist(), width.tolist(), stride.tolist(), strict=True):
            rows = min(span, (len(pixels) - begin - (bands.blocks - 1) * step - bands.width) // line + 1)
            part[:, :rows] = pixels.as_strided((bands.blocks, rows, bands.width), (step, line, 1), begin)
            part[:, rows:] = 0.0
        return window
    places = first[:, None, None, None] + stride[:, None, None, None] * _along(bands.blocks, 1, pixels.device)
    places = places + width[:, None, None, None] * _along(span, 2, pixels.device)
    places = places + _along(bands.width, 3, pixels.device)
    return pixels[places.clamp_(0, len(pixels) - 1)].float()


def _along(count: int, axis: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device).view([count if place == axis else 1 for place in range(4)])
