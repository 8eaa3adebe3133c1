"""Sampling a level of a canvas at the scale of a view: the response in frequency is given, its cosine transform taken.

The response is the Gaussian that takes the blur of the level's pixel to that of the view's, cut off around the view's
Nyquist frequency. All lengths are in pixels of the level, all frequencies in radians per such pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from scoutview.images import wavelet
from scoutview.images.cutoff import END, roll_off
from scoutview.images.spectrum import PIXEL_SIGMA

_LOBES = 3.5
"""Where kernels end, in pixels of the view."""
_STEPS = 256
"""Places at which a kernel is tabulated between its middle and its end; in between it is linear."""
_FREQUENCIES = 24
_HIGHEST = END * np.pi * _LOBES
"""The responses end at END times the Nyquist frequency, which is _HIGHEST / reach."""
_FACTORS = 256
_FEWEST = 32
"""Rows of a block: smaller ones overlap more than they save."""


def reach(scale: Tensor) -> Tensor:
    """How far kernels go to each side in px; scale: of the view relative to the level."""
    return _LOBES / scale.clamp(max=1.0)


def kernel_tables(scale: Tensor, level: int, reduced: Tensor) -> Tensor:
    """Kernels [pair, step] from their middle to their end, where two zeros follow.

    scale [pair]: of the view relative to the level `level` of its canvas. reduced [pair]: level of the read that the
    canvas was made from, whose wavelet is undone.
    """
    extent = reach(scale)
    order, cosines = _transform(scale.device)
    frequency = order * (_HIGHEST / extent)[:, None]
    variance = PIXEL_SIGMA**2 * (scale.square().reciprocal() - 1).clamp_min(0.0)
    response = torch.exp(-0.5 * variance[:, None] * frequency.square())
    return (response * _undone(frequency / 2**level, reduced)) @ cosines


@cache
def _transform(device: torch.device) -> tuple[Tensor, Tensor]:
    """(frequencies, as a share of the highest; [frequency, step], with two columns of 0 for what lies beyond the end).

    The cut is in it.
    """
    order = (np.arange(_FREQUENCIES) + 0.5) / _FREQUENCIES
    table = np.cos(np.multiply.outer(order, np.arange(_STEPS) / _STEPS) * _HIGHEST) * roll_off(END * order)[:, None]
    both = order, np.pad(table, ((0, 0), (0, 2)))
    first, second = (torch.tensor(values, dtype=torch.float32, device=device) for values in both)
    return first, second


@cache
def _factors(device: torch.device) -> Tensor:
    """[level of a reduced read, frequency]: what makes of it the image rescaled (`wavelet.low_pass`, a Gaussian)."""
    frequency = np.linspace(0.0, np.pi, _FACTORS + 1)
    rows = [
        np.exp(-(PIXEL_SIGMA**2) * (1 - 0.25**level) * np.square(frequency) / 2)
        / wavelet.low_pass(frequency / 2**level, level)
        for level in range(len(wavelet.OVERSHOOT))
    ]
    return torch.tensor(np.stack(rows), dtype=torch.float32, device=device)


def _undone(frequency: Tensor, reduced: Tensor) -> Tensor:
    place = (frequency * (_FACTORS / np.pi)).round().clamp(max=_FACTORS).long()
    return _factors(frequency.device)[reduced[:, None], place]


@dataclass(frozen=True)
class Bands:
    """Sizes of banded matrices: `blocks` blocks of `block` positions and `width` px; a kernel has up to `taps` px.

    span: px that all blocks have together.
    """

    blocks: int
    block: int
    taps: int
    width: int
    span: int

    @classmethod
    def make(cls, size: int, scale: float) -> Bands:
        """For views of `size` px at `scale` relative to the level, or at a larger one."""
        taps = int(np.ceil(2 * _LOBES / min(scale, 1.0))) + 1
        blocks = max(round(size / max(_FEWEST, taps * scale)), 1)
        block = -(-size // blocks)
        width = int(np.ceil((block - 1) / scale)) + taps + blocks
        return cls(blocks, block, taps, width, int(np.ceil((blocks * block - 1) / scale)) + taps + 1)


def strides(scale: Tensor, bands: Bands) -> Tensor:
    """Pixels [pair] from the beginning of a block to that of the next."""
    return (bands.block / scale).floor().long()


def banded(tables: Tensor, scale: Tensor, middle: Tensor, bands: Bands) -> tuple[Tensor, Tensor]:
    """Sampling as matrices: (weights [pair, block, position, pixel], first pixel of block 0 [pair]).

    Position i of the view is at middle + i / scale, in px from the middle of pixel 0. The pixels of a block begin
    `strides` behind those of the block before. Rows sum to 1.
    """
    device = scale.device
    count = bands.blocks * bands.block
    extent = reach(scale)[:, None]
    centre = middle[:, None] + torch.arange(count, device=device, dtype=torch.float32) / scale[:, None]
    lowest = (centre - extent).ceil()
    taps = torch.arange(bands.taps, device=device, dtype=torch.float32)
    place = ((lowest - centre)[:, :, None] + taps).abs_().mul_((_STEPS / extent)[:, :, None]).clamp_(max=_STEPS)
    index = place.to(torch.int64)
    below = tables.gather(1, index.flatten(1)).view_as(place)
    above = tables.gather(1, index.add_(1).flatten(1)).view_as(place)
    weights = torch.lerp(below, above, place.frac_())
    weights /= weights.sum(2, keepdim=True)
    start = lowest[:, :1]
    block = torch.arange(bands.blocks, device=device).repeat_interleave(bands.block)
    shift = (lowest - start).long() - block * strides(scale, bands)[:, None]
    matrix = weights.new_zeros(len(scale), count, bands.width)
    matrix.scatter_(2, shift[:, :, None] + torch.arange(bands.taps, device=device), weights)
    return matrix.view(-1, bands.blocks, bands.block, bands.width), start[:, 0].long()
