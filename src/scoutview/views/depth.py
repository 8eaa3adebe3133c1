"""Views of volumes along their depth: which slices they show, and the Gaussians of the energy bands across slices.

Within its slices a view of a volume is made as one of an image, slice by slice. Along the depth a band's low-pass L_j
multiplies the cosine series of the volume by exp(-S_j^2 w^2 / 2), mirrored at its ends as an image is at its borders:
a small matrix for each view, since the distance of slices in pixels of the view differs from view to view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.images.spectrum import CASCADE_VARIANCES

Numbers = npt.NDArray[np.floating]

REACH = 3.0
"""Standard deviations of L_5 up to which slices beside a view are looked at."""
_BESIDE = 2
"""Slices in any case: Gaussians of less than a slice have small ripples."""


@dataclass(frozen=True)
class VolumeDepth:
    """Where the slices of volumes lie in a batch, and their views among them.

    first [image]: number of its first slice among all slices of the batch; slices [image]: how many it has. front,
    thickness [image, view]: see `DepthParameters`.
    """

    first: Tensor
    slices: Tensor
    front: Tensor
    thickness: Tensor

    def of_views(self, first: int, last: int) -> VolumeDepth:
        """Views first, ..., last - 1 of all volumes, all four by pairs [view and image]."""
        views = last - first
        front, thickness = (value[:, first:last].T.flatten() for value in (self.front, self.thickness))
        return VolumeDepth(self.first.repeat(views), self.slices.repeat(views), front, thickness)

    def of(self, pairs: Tensor) -> VolumeDepth:
        """Some of these pairs."""
        return VolumeDepth(self.first[pairs], self.slices[pairs], self.front[pairs], self.thickness[pairs])


def shown(front: Tensor, slices: Tensor, count: int) -> Tensor:
    """Slices [view, slice] of the volume that views of `count` slices show, mirrored beyond its ends.

    front [view]: first slice; slices [view]: of the volume.
    """
    place = (front.long()[:, None] + torch.arange(count)) % (2 * slices[:, None])
    return torch.minimum(place, 2 * slices[:, None] - 1 - place)


def depth_filters(depth: VolumeDepth, factors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(slices that are needed [view, place], weights [view, slice of the view, place, 6] of their L_j within slices).

    depth: by views [view], of `count` slices each; factors [view, 6]: c_j of the sum of the L_j. Where a view needs
    fewer slices than another, its last one is repeated with no weight.
    """
    front, slices, thickness = depth.front.long(), depth.slices, depth.thickness
    reach = torch.ceil(REACH * np.sqrt(CASCADE_VARIANCES[-1]) / thickness).long() + _BESIDE
    begin = (front - reach).clamp_min(0)
    end = torch.minimum(front + count + reach, slices)
    most = int((end - begin).max())
    weights = torch.zeros(len(front), count, most, len(CASCADE_VARIANCES))
    rows = zip(front.tolist(), slices.tolist(), thickness.tolist(), begin.tolist(), end.tolist(), strict=True)
    for view, (first, length, distance, low, high) in enumerate(rows):
        kernel = torch.from_numpy(_kernels(first + np.arange(count), length, distance)[:, low:high])
        kernel /= kernel.sum(1, keepdim=True)
        weights[view, :, : high - low] = kernel.float()
    places = torch.minimum(begin[:, None] + torch.arange(most), end[:, None] - 1)
    return places, weights * factors[:, None, None]


def _kernels(places: Numbers, slices: int, thickness: float) -> Numbers:
    """Weights [place, slice, 6] of the low-passes at `places`, which may lie outside."""
    order = np.arange(slices)
    frequency = np.pi * order / slices
    response = np.exp(-0.5 * np.multiply.outer(np.square(frequency), CASCADE_VARIANCES) / thickness**2)
    response[1:] *= 2.0
    series = np.cos(np.multiply.outer(places + 0.5, frequency))
    basis = np.cos(np.multiply.outer(frequency, order + 0.5)) / slices
    # [place, frequency, 1] x [frequency, 6] -> [place, 6, frequency] x [frequency, slice]
    both = (series[:, :, None] * response).transpose(0, 2, 1) @ basis
    kernels: Numbers = both.transpose(0, 2, 1)
    return kernels
