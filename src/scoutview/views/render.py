"""Applying view parameters, batched on the device: sample the canvas, energies (Eq. 8), intensity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scoutview.images.spectrum import PIXEL_SIGMA
from scoutview.views.energy import COARSE, COARSE_MARGIN, MARGIN, Grids, filtered
from scoutview.views.parameters import ViewSize, in_plane
from scoutview.views.sampling import sample

FILTERED = {"cpu": 8, "cuda": 256}
"""Views that are filtered together."""


@dataclass(frozen=True)
class ViewBatch:
    """Canvases and view parameters of a batch, collated. Only pixels lie on the device.

    pixels int16 [pixel]: all canvases, one after the other. starts [image, level]: pixel (0, 0) of each level in it, -1
    where an image has no such level; widths [image, level]: px from a row to the next. reduced [image]: level of the
    read; mean [image] of the image. scale, top, left, gamma, gain, bias [image, view]; bands [image, view, 6]: see
    `ViewParameters`; of an image that was read reduced they are those of the read (`on_reduced`).
    """

    pixels: Tensor
    starts: Tensor
    widths: Tensor
    reduced: Tensor
    mean: Tensor
    scale: Tensor
    top: Tensor
    left: Tensor
    bands: Tensor
    gamma: Tensor
    gain: Tensor
    bias: Tensor

    def to(self, device: torch.device) -> ViewBatch:
        """The same batch with its pixels on another device."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=True))

    def pin_memory(self) -> ViewBatch:
        """The same batch with its pixels in page-locked memory."""
        return replace(self, pixels=self.pixels.pin_memory())


def render_views(batch: ViewBatch, sizes: list[ViewSize]) -> list[Tensor]:
    """Render all views; consecutive views of equal size come in one tensor [view, image, 1, row, column] in [0, 1] *.

    * before the linear intensity change a I + b, which may leave the range by design.
    """
    groups: list[Tensor] = []
    first = 0
    while first < len(sizes):
        last = first
        while last < len(sizes) and sizes[last] == sizes[first]:
            last += 1
        groups.append(_render(batch, first, last, in_plane(sizes[first])).unsqueeze(2))
        first = last
    return groups


def _render(batch: ViewBatch, first: int, last: int, sides: tuple[int, int]) -> Tensor:
    """Views first, ..., last - 1, all of one size: [view, image, row, column]."""
    device = batch.pixels.device
    images = len(batch.mean)
    crops = torch.empty((last - first) * images, *sides, device=device)

    def column(values: Tensor) -> Tensor:
        """[image, view, ...] -> [pair, ...]: view by view, in each image by image."""
        return values[:, first:last].transpose(0, 1).flatten(0, 1)

    def on_grid(pairs: Tensor, pixel: int, margin: int, grid: tuple[int, int], finest: float) -> Tensor:
        """Views on a grid whose pixels are `pixel` of the view's wide, and which begins `margin` of them before it."""
        image = pairs % images
        return sample(
            batch.pixels,
            batch.starts[image],
            batch.widths[image],
            batch.reduced[image],
            column(batch.scale)[pairs] / pixel,
            corner[pairs] / pixel - margin,
            grid,
            finest,
        )

    corner = torch.stack([column(batch.top), column(batch.left)], dim=1)
    bands = column(batch.bands)
    changed = (bands != 1).any(1)
    plain = (~changed).nonzero().flatten()
    if len(plain):
        crops[plain.to(device, non_blocking=True)] = on_grid(plain, 1, 0, sides, PIXEL_SIGMA)
    # c_0 = lambda_1, c_j = lambda_{j+1} - lambda_j
    factors = torch.diff(bands, dim=1, prepend=torch.zeros_like(bands[:, :1]))
    down, across = Grids.of(sides[0]), Grids.of(sides[1])
    for pairs in changed.nonzero().flatten().split(16 * FILTERED[device.type]):
        fine = on_grid(pairs, 1, MARGIN, (down.fine, across.fine), PIXEL_SIGMA)
        coarse = on_grid(pairs, COARSE, COARSE_MARGIN, (down.coarse, across.coarse), 2 * PIXEL_SIGMA)
        scales, where = (value.to(device, non_blocking=True) for value in (factors[pairs], pairs))
        for begin in range(0, len(pairs), FILTERED[device.type]):
            span = slice(begin, begin + FILTERED[device.type])
            crops[where[span]] = filtered(fine[span], coarse[span], scales[span], sides)

    # lambda_6 acts on I_6 minus its mean, which passes unchanged.
    mean = batch.mean.repeat(last - first) * (1.0 - bands[:, -1])
    gamma = column(batch.gamma)
    changes = torch.stack([mean, gamma, column(batch.gain), column(batch.bias)])[:, :, None, None]
    shift, power, gain, bias = changes.to(device, non_blocking=True)
    # A negative base has no power: clip first, as energy and resampling may leave [0, 1].
    crops.add_(shift).clamp_(0.0, 1.0)
    bent = (gamma != 1).nonzero().flatten().to(device, non_blocking=True)
    crops[bent] = crops[bent].pow_(power[bent])
    return crops.mul_(gain).add_(bias).view(last - first, images, *sides)
