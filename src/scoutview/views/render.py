"""Applying view parameters, batched on the device: a view is two matrix products of filtered DCT coefficients.

With X the coefficients of an image, the rescaled, energy-augmented crop is  A (X * F) B^T: F is the transfer
function of anti-aliasing and sum_k lambda_k I_k (Eq. 8), A and B hold the cosines at the crop's rows and columns.
Every Gaussian of F is separable, so F itself is a product of two thin matrices. Nothing is interpolated, and
nothing depends on what lies outside of the crop but through X.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scoutview.images.spectrum import CASCADE_VARIANCES, NYQUIST, PIXEL_SIGMA

GROUP = 16
"""Images that are rendered together: large enough for batched products, small enough to stay in cache."""


@dataclass(frozen=True)
class ViewBatch:
    """Images and view parameters of a batch, collated; all float32 but `shape`.

    coefficients [image, row frequency, column frequency], zero-padded; shape [image, 2] in px. Of an image that was
    read reduced, shape, scale, top and left are those of the read.
    scale, top, left, gamma, gain, bias [image, view]; bands [image, view, 6]: see `ViewParameters`.
    """

    coefficients: Tensor
    shape: Tensor
    scale: Tensor
    top: Tensor
    left: Tensor
    bands: Tensor
    gamma: Tensor
    gain: Tensor
    bias: Tensor

    def to(self, device: torch.device) -> ViewBatch:
        """The same batch on another device."""
        return ViewBatch(*(value.to(device, non_blocking=True) for value in vars(self).values()))

    def pin_memory(self) -> ViewBatch:
        """The same batch in page-locked memory."""
        return ViewBatch(*(value.pin_memory() for value in vars(self).values()))


def needed_frequencies(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """How many row and column frequencies of an image of `shape` lie below the Nyquist frequency of the rescale."""
    kept = [min(length, int(np.ceil(length * min(scale, 1.0)))) for length in shape]
    return kept[0], kept[1]


def render_views(batch: ViewBatch, sizes: list[int]) -> list[Tensor]:
    """Render all views; consecutive views of equal size come in one tensor [view, image, 1, size, size] in [0, 1] *.

    * before the linear intensity change a I + b, which may leave the range by design.
    """
    groups: list[Tensor] = []
    first = 0
    while first < len(sizes):
        last = first
        while last < len(sizes) and sizes[last] == sizes[first]:
            last += 1
        views = [_render_view(batch, view, sizes[view]) for view in range(first, last)]
        groups.append(torch.stack(views).unsqueeze(2))
        first = last
    return groups


def _render_view(batch: ViewBatch, view: int, size: int) -> Tensor:
    """One view of every image: [image, size, size].

    Images of similar scale are rendered together: each group is cut to the frequencies that it needs.
    """
    kept = (batch.shape * batch.scale[:, view, None].clamp(max=1.0)).ceil()
    order = kept.amax(1).argsort()
    crops = batch.coefficients.new_empty(len(order), size, size)
    for group in torch.split(order, GROUP):
        vertical_count, horizontal_count = (int(count) for count in kept[group].amax(0))
        crops[group] = _render_group(batch, group, view, size, vertical_count, horizontal_count)
    return crops


def _render_group(batch: ViewBatch, group: Tensor, view: int, size: int, rows: int, columns: int) -> Tensor:
    shape, scale = batch.shape[group], batch.scale[group, view]
    coefficients = batch.coefficients[group, :rows, :columns]
    vertical = _frequencies(coefficients.shape[1], shape[:, 0], scale)
    horizontal = _frequencies(coefficients.shape[2], shape[:, 1], scale)
    filtered = _transfer(vertical, horizontal, scale, batch.bands[group, view]).mul_(coefficients)
    down = _cosines(vertical, shape[:, 0], batch.top[group, view], size)
    across = _cosines(horizontal, shape[:, 1], batch.left[group, view], size)
    crop = torch.bmm(torch.bmm(down, filtered), across.transpose(1, 2))
    # A negative base has no power: clip first, as energy and resampling may leave [0, 1].
    crop = crop.clamp_(0.0, 1.0).pow_(batch.gamma[group, view, None, None])
    return crop.mul_(batch.gain[group, view, None, None]).add_(batch.bias[group, view, None, None])


def _frequencies(count: int, length: Tensor, scale: Tensor) -> Tensor:
    """Frequencies [image, frequency] in rad per pixel of the view."""
    order = torch.arange(count, device=length.device, dtype=torch.float32)
    return np.pi * order[None] / (length[:, None] * scale[:, None])


def _transfer(vertical: Tensor, horizontal: Tensor, scale: Tensor, bands: Tensor) -> Tensor:
    """Transfer function [image, row frequency, column frequency] of anti-aliasing and energy bands.

    sum_k lambda_k (L_{k-1} - L_k) + lambda_6 L_5 = sum_j c_j L_j with c_0 = lambda_1, c_j = lambda_{j+1} - lambda_j;
    L_j is a Gaussian of variance S_j^2. The mean passes unchanged: lambda_6 acts on I_6 minus its mean.
    """
    aliasing = PIXEL_SIGMA**2 * (1.0 - scale.square()).clamp_min(0.0)
    cascade = torch.as_tensor(CASCADE_VARIANCES, dtype=torch.float32, device=scale.device)
    variances = (aliasing[:, None] + cascade[None])[:, :, None]
    weights = torch.diff(bands, dim=1, prepend=torch.zeros_like(bands[:, :1]))[:, :, None]
    # Above the Nyquist frequency of the view nothing passes; enlarging needs no cut, there is nothing to alias.
    limit = torch.where(scale < 1.0, NYQUIST, torch.inf)[:, None, None]
    down = torch.exp(-0.5 * variances * vertical.square()[:, None]) * (vertical[:, None] <= limit)
    across = torch.exp(-0.5 * variances * horizontal.square()[:, None]) * (horizontal[:, None] <= limit)
    transfer = torch.bmm((weights * down).transpose(1, 2), across)
    transfer[:, 0, 0] = 1.0
    return transfer


def _cosines(frequencies: Tensor, length: Tensor, corner: Tensor, size: int) -> Tensor:
    """Orthonormal DCT basis [image, position, frequency] at the pixel centres corner + 0.5, corner + 1.5, ..."""
    centres = corner[:, None] + torch.arange(size, device=corner.device, dtype=torch.float32)[None] + 0.5
    basis = torch.cos(centres[:, :, None] * frequencies[:, None, :]) * torch.sqrt(2.0 / length)[:, None, None]
    basis[:, :, 0] *= 0.5**0.5
    return basis
