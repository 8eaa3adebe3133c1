"""The energy augmentation at the scale of a view (Eq. 8), batched on the device: fixed small matrices, nothing else.

sum_k lambda_k I_k = sum_j c_j L_j with c_0 = lambda_1, c_j = lambda_{j+1} - lambda_j; L_0 is the view, L_1 to L_5 are
Gaussians of it. L_1 and L_2 are filtered on the view's own grid with a small margin; L_3 to L_5, which are wide and
smooth, on a grid four times as coarse that is sampled from the canvas as well, and their sum is brought to the view's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.images.cutoff import END, roll_off
from scoutview.images.spectrum import CASCADE_VARIANCES, PIXEL_SIGMA

Numbers = npt.NDArray[np.float64]

COARSE = 4
"""px of the view that a px of the coarse grid is wide."""
_FINE, _WIDE = (1, 2), (3, 4, 5)
"""The low-passes on either grid."""
MARGIN = 8
"""px of the view that L_2 reaches: 3.6 standard deviations."""
COARSE_MARGIN = 14
"""px of the coarse grid that L_5 reaches: 3 standard deviations."""
_BESIDE = 4
"""px of the coarse grid that are needed on each side to interpolate it."""
_BLOCK = 32


@dataclass(frozen=True)
class Grids:
    """Along an axis, the grids of a view of `size` px: `blocks` of `block` px, `fine` and `coarse` px with margins.

    fine begins MARGIN px of the view before it, coarse COARSE_MARGIN of its own.
    """

    size: int
    blocks: int
    block: int
    fine: int
    coarse: int

    @classmethod
    def of(cls, size: int) -> Grids:
        """For views of `size` px along the axis."""
        blocks = max(round(size / _BLOCK), 1)
        block = -(-size // blocks)
        return cls(size, blocks, block, blocks * block + 2 * MARGIN, -(-size // COARSE) + 2 * COARSE_MARGIN)


def filtered(fine: Tensor, coarse: Tensor, factors: Tensor, sides: tuple[int, int]) -> Tensor:
    """sum_j c_j L_j: [view, row, column], of `sides`.

    fine, coarse: the view on its `Grids` [view, row, column]; factors [view, 6]: c_j.
    """
    device = fine.device
    rows, columns = (slice(MARGIN, MARGIN + side) for side in sides)
    result = factors[:, :1, None] * fine[:, rows, columns]
    result += _narrow(fine, factors[:, 1:3], Grids.of(sides[0]), Grids.of(sides[1]))
    (wide, up), (wide_across, up_across) = (_wide_matrices(side, device) for side in sides)
    low = torch.matmul(wide, coarse).unflatten(1, (len(_WIDE), -1)) * factors[:, 3:, None, None]
    low = torch.matmul(low.transpose(1, 2).flatten(2), _side_by_side(wide_across))
    return result.add_(torch.matmul(torch.matmul(up, low), up_across.T))


def low_passes(fine: Tensor, coarse: Tensor, sides: tuple[int, int]) -> Tensor:
    """L_0 to L_5 each by itself: [view, 6, row, column], of `sides`; fine, coarse: as for `filtered`."""
    result = torch.empty(len(fine), len(CASCADE_VARIANCES), *sides, device=fine.device)
    fine = fine[:, : sides[0] + 2 * MARGIN, : sides[1] + 2 * MARGIN]
    result[:, 0] = fine[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    down, across = (_narrow_matrices(side, fine.device)[0].unflatten(0, (len(_FINE), -1)) for side in sides)
    (wide, up), (wide_across, up_across) = (_wide_matrices(side, fine.device) for side in sides)
    low = torch.matmul(wide, coarse).unflatten(1, (len(_WIDE), -1))
    for place, number in enumerate(_FINE):
        result[:, number] = torch.matmul(torch.matmul(down[place], fine), across[place].T)
    for place, number in enumerate(_WIDE):
        smooth = torch.matmul(low[:, place], wide_across.unflatten(0, (len(_WIDE), -1))[place].T)
        result[:, number] = torch.matmul(torch.matmul(up, smooth), up_across.T)
    return result


def _narrow(fine: Tensor, factors: Tensor, down: Grids, across: Grids) -> Tensor:
    """c_1 L_1 + c_2 L_2: both along rows, block by block, then along columns, transposed, as one product."""
    views, side = len(fine), across.fine
    first, _ = _narrow_matrices(down.block, fine.device)
    _, second = _narrow_matrices(across.block, fine.device)
    window = down.block + 2 * MARGIN
    blocks = fine.as_strided((views, down.blocks, window, side), (down.fine * side, down.block * side, side, 1))
    rows = torch.matmul(first, blocks).view(views, down.blocks, len(_FINE), down.block, side)
    # [view, column, low-pass, row]: (column, low-pass) of a block lie one after the other.
    turned = rows.new_empty(views, side, len(_FINE), down.blocks, down.block)
    torch.mul(rows.permute(0, 4, 2, 1, 3), factors[:, None, :, None, None], out=turned)
    count = down.blocks * down.block
    line, window = len(_FINE) * count, across.block + 2 * MARGIN
    columns = turned.as_strided(
        (views, across.blocks, window * len(_FINE), count), (side * line, across.block * line, count, 1)
    )
    both = torch.matmul(second, columns).flatten(1, 2)
    return both.transpose(1, 2)[:, : down.size, : across.size]


@cache
def _narrow_matrices(block: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """([low-pass and position, pixel], [position, pixel and low-pass]) of one block with its margins."""
    distance = np.arange(block)[:, None] - np.arange(block + 2 * MARGIN) + MARGIN
    weights = np.stack([_normalised(np.exp(-0.5 * distance**2 / CASCADE_VARIANCES[number])) for number in _FINE])
    first, second = weights.reshape(-1, weights.shape[2]), weights.transpose(1, 2, 0).reshape(block, -1)
    return _on(device, first), _on(device, second)


@cache
def _wide_matrices(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(low-passes of the coarse grid on its own middle part [low-pass and position, pixel], from there to the view)."""
    outer = np.arange(float(Grids.of(size).coarse))
    inner = outer[COARSE_MARGIN - _BESIDE : len(outer) - COARSE_MARGIN + _BESIDE]
    frequency = (np.arange(256) + 0.5) * np.pi / 256
    # What the coarse grid has of these Gaussians already: the blur of its pixel, and the cut at its Nyquist frequency.
    had = PIXEL_SIGMA**2 * (1 - 1 / COARSE**2)
    missing = [CASCADE_VARIANCES[number] / COARSE**2 - had for number in _WIDE]
    cut = roll_off(frequency / np.pi)
    wide = np.concatenate(
        [_kernel(inner[:, None] - outer, frequency, np.exp(-0.5 * rest * frequency**2) / cut) for rest in missing]
    )
    position = (np.arange(size) + 0.5) / COARSE - 0.5 + COARSE_MARGIN
    up = _kernel(position[:, None] - inner, frequency * END, roll_off(frequency * END / np.pi))
    return _on(device, wide), _on(device, up)


def _on(device: torch.device, values: Numbers) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def _kernel(distance: Numbers, frequency: Numbers, response: Numbers) -> Numbers:
    return _normalised(np.cos(np.multiply.outer(distance, frequency)) @ response)


def _normalised(weights: Numbers) -> Numbers:
    normalised: Numbers = weights / weights.sum(1, keepdims=True)
    return normalised


def _side_by_side(wide: Tensor) -> Tensor:
    """[low-pass and position, pixel] -> [low-pass and pixel, position]."""
    beside: Tensor = wide.unflatten(0, (len(_WIDE), -1)).transpose(1, 2).flatten(0, 1)
    return beside
