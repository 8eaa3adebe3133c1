"""Applying view parameters, batched on the device: sample the canvas, energies (Eq. 8), intensity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from scoutview.images.spectrum import PIXEL_SIGMA
from scoutview.views.depth import VolumeDepth, depth_filters, shown
from scoutview.views.energy import COARSE, COARSE_MARGIN, MARGIN, Grids, filtered, low_passes
from scoutview.views.parameters import ViewSize, in_plane, slices_of
from scoutview.views.photo import PhotoParameters, augment_photo
from scoutview.views.sampling import sample

FILTERED = {"cpu": 8, "cuda": 256}
"""Views that are filtered together."""
FILTERED_VOLUMES = {"cpu": 1, "cuda": 4}
"""The same of volumes."""


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

    def to(self, device: torch.device) -> Self:
        """The same batch with its pixels on another device."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same batch with its pixels in page-locked memory."""
        return replace(self, pixels=self.pixels.pin_memory())


@dataclass(frozen=True)
class VolumeBatch(ViewBatch):
    """The same of volumes: `starts` and `widths` are of slices [slice], and depth says whose they are."""

    depth: VolumeDepth


def render_views(batch: ViewBatch, sizes: list[ViewSize], photo: PhotoParameters | None = None) -> list[Tensor]:
    """Render all views; consecutive views of equal size come in one tensor [view, image, 1, row, column] in [0, 1] *.

    Of volumes in one [view, volume, 1, slice, row, column]. * before the linear intensity change a I + b, which may
    leave the range by design. photo: to be applied last.
    """
    groups: list[Tensor] = []
    first = 0
    while first < len(sizes):
        last = first
        while last < len(sizes) and sizes[last] == sizes[first]:
            last += 1
        groups.append(_render(batch, first, last, sizes[first]).unsqueeze(2))
        first = last
    return groups if photo is None else augment_photo(groups, photo)


def _render(batch: ViewBatch, first: int, last: int, size: ViewSize) -> Tensor:
    """Views first, ..., last - 1, all of one size: [view, image, row, column] or [view, volume, slice, row, column]."""
    pairs = _pairs(batch, first, last)
    sides, count = in_plane(size), slices_of(size)
    if isinstance(batch, VolumeBatch):
        crops = _volumes(batch, pairs, batch.depth.of_views(first, last), count, sides)
    else:
        crops = _images(batch, pairs, sides)
    return _intensities(crops, pairs, batch.mean).view(last - first, len(batch.mean), *crops.shape[1:])


@dataclass(frozen=True)
class _Pairs:
    """Some views of all images, view by view, in each image by image: [pair, ...].

    image: its number; the others as in `ViewBatch`, and corner: row and column; factors [pair, 6]: c_j of the sum of
    the low-passes, see `energy`.
    """

    image: Tensor
    scale: Tensor
    corner: Tensor
    bands: Tensor
    factors: Tensor
    gamma: Tensor
    gain: Tensor
    bias: Tensor


def _pairs(batch: ViewBatch, first: int, last: int) -> _Pairs:
    def column(values: Tensor) -> Tensor:
        return values[:, first:last].transpose(0, 1).flatten(0, 1)

    bands = column(batch.bands)
    return _Pairs(
        image=torch.arange(len(batch.mean)).repeat(last - first),
        scale=column(batch.scale),
        corner=torch.stack([column(batch.top), column(batch.left)], dim=1),
        bands=bands,
        # c_0 = lambda_1, c_j = lambda_{j+1} - lambda_j
        factors=torch.diff(bands, dim=1, prepend=torch.zeros_like(bands[:, :1])),
        gamma=column(batch.gamma),
        gain=column(batch.gain),
        bias=column(batch.bias),
    )


def _on_grid(
    batch: ViewBatch,
    pairs: _Pairs,
    chosen: Tensor,
    planes: Tensor,
    pixel: int,
    margin: int,
    grid: tuple[int, int],
    finest: float,
) -> Tensor:
    """Views on a grid whose pixels are `pixel` of the view's wide, and which begins `margin` of them before it.

    chosen: which pairs; planes: their images, or slices, among all of the batch.
    """
    return sample(
        batch.pixels,
        batch.starts[planes],
        batch.widths[planes],
        batch.reduced[pairs.image[chosen]],
        pairs.scale[chosen] / pixel,
        pairs.corner[chosen] / pixel - margin,
        grid,
        finest,
    )


def _both_grids(
    batch: ViewBatch, pairs: _Pairs, chosen: Tensor, planes: Tensor, sides: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(fine, coarse): what the energy augmentation needs."""
    down, across = Grids.of(sides[0]), Grids.of(sides[1])
    fine, coarse = (down.fine, across.fine), (down.coarse, across.coarse)
    return (
        _on_grid(batch, pairs, chosen, planes, 1, MARGIN, fine, PIXEL_SIGMA),
        _on_grid(batch, pairs, chosen, planes, COARSE, COARSE_MARGIN, coarse, 2 * PIXEL_SIGMA),
    )


def _images(batch: ViewBatch, pairs: _Pairs, sides: tuple[int, int]) -> Tensor:
    """Sampled and filtered: [pair, row, column]."""
    device = batch.pixels.device
    crops = torch.empty(len(pairs.image), *sides, device=device)
    changed = (pairs.bands != 1).any(1)
    plain = (~changed).nonzero().flatten()
    if len(plain):
        sampled = _on_grid(batch, pairs, plain, pairs.image[plain], 1, 0, sides, PIXEL_SIGMA)
        crops[plain.to(device, non_blocking=True)] = sampled
    for chosen in changed.nonzero().flatten().split(16 * FILTERED[device.type]):
        fine, coarse = _both_grids(batch, pairs, chosen, pairs.image[chosen], sides)
        factors, where = (value.to(device, non_blocking=True) for value in (pairs.factors[chosen], chosen))
        for begin in range(0, len(chosen), FILTERED[device.type]):
            span = slice(begin, begin + FILTERED[device.type])
            crops[where[span]] = filtered(fine[span], coarse[span], factors[span], sides)
    return crops


def _volumes(batch: VolumeBatch, pairs: _Pairs, depth: VolumeDepth, count: int, sides: tuple[int, int]) -> Tensor:
    """The same of volumes, slice by slice and then from slice to slice: [pair, slice, row, column]."""
    device = batch.pixels.device
    crops = torch.empty(len(pairs.image), count, *sides, device=device)
    changed = (pairs.bands != 1).any(1)
    together = FILTERED_VOLUMES[device.type]
    for chosen in filter(len, (~changed).nonzero().flatten().split(together)):  # of nothing, a part is nothing
        planes = depth.first[chosen, None] + shown(depth.front[chosen], depth.slices[chosen], count)
        each = chosen.repeat_interleave(count)
        sampled = _on_grid(batch, pairs, each, planes.flatten(), 1, 0, sides, PIXEL_SIGMA)
        crops[chosen.to(device, non_blocking=True)] = sampled.view(len(chosen), count, *sides)
    for chosen in filter(len, changed.nonzero().flatten().split(together)):
        places, weights = depth_filters(depth.of(chosen), pairs.factors[chosen], count)
        planes, each = (depth.first[chosen, None] + places).flatten(), chosen.repeat_interleave(places.shape[1])
        fine, coarse = _both_grids(batch, pairs, each, planes, sides)
        # [pair, slice of the view, place and low-pass] x [pair, place and low-pass, pixel]
        levels = low_passes(fine, coarse, sides).view(len(chosen), -1, sides[0] * sides[1])
        mixed = torch.matmul(weights.flatten(2).to(device, non_blocking=True), levels)
        crops[chosen.to(device, non_blocking=True)] = mixed.view(len(chosen), count, *sides)
    return crops


def _intensities(crops: Tensor, pairs: _Pairs, mean: Tensor) -> Tensor:
    """Gamma and a I + b [pair, ...], in place."""
    # lambda_6 acts on I_6 minus its mean, which passes unchanged.
    mean = mean[pairs.image] * (1.0 - pairs.bands[:, -1])
    changes = torch.stack([mean, pairs.gamma, pairs.gain, pairs.bias])
    changes = changes.view(4, -1, *[1] * (crops.ndim - 1))
    shift, power, gain, bias = changes.to(crops.device, non_blocking=True)
    # A negative base has no power: clip first, as energy and resampling may leave [0, 1].
    crops.add_(shift).clamp_(0.0, 1.0)
    bent = (pairs.gamma != 1).nonzero().flatten().to(crops.device, non_blocking=True)
    crops[bent] = crops[bent].pow_(power[bent])
    return crops.mul_(gain).add_(bias)
