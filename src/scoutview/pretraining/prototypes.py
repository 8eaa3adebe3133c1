"""Prototypes: one matrix C_m [K_m, F] of unit rows per modality, without a bias, always scored in fp32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.encoders import at_least_fp32


class Prototypes(nn.Module):
    """The prototypes of all modalities."""

    def __init__(self, counts: Sequence[int], projection: int) -> None:
        super().__init__()
        self.matrices = nn.ParameterList(nn.Parameter(torch.randn(count, projection)) for count in counts)
        self.normalise()

    @torch.no_grad()
    def normalise(self) -> None:
        """Project every prototype to unit norm: at the start and after each optimizer step that moved it."""
        for matrix in self.matrices:
            matrix.copy_(F.normalize(matrix, dim=1))

    def forward(self, projections: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Cosines with the modality's own prototypes: per modality [view, sample, K_m].

        projections [view, sample, F]: unit vectors, modality after modality; counts: samples of each. With a single
        matrix it is that of all modalities.
        """
        with torch.autocast(projections.device.type, enabled=False):
            if len(self.matrices) == 1:
                return list((at_least_fp32(projections) @ self.matrices[0].T).split(list(counts), dim=1))
            blocks = at_least_fp32(projections).split(list(counts), dim=1)
            if len(set(counts)) == 1 and len({len(matrix) for matrix in self.matrices}) == 1:
                joined = torch.stack([block.flatten(0, 1) for block in blocks])
                scores = torch.bmm(joined, torch.stack(list(self.matrices)).transpose(1, 2))
                return list(scores.unflatten(1, (len(projections), counts[0])).unbind())
            return [block @ matrix.T for block, matrix in zip(blocks, self.matrices, strict=True)]

    def freeze(self) -> None:
        """Drop this step's gradients: no update, no momentum, no weight decay."""
        for matrix in self.matrices:
            matrix.grad = None
