"""Means of named values of the images of each modality, between two lines of the log."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scoutview.training import all_reduce


class ModalityMeans:
    """Sums and numbers of values; nothing leaves the device until read."""

    def __init__(self, names: Sequence[str], modalities: int, device: torch.device) -> None:
        self.names = list(names)
        self.sums = torch.zeros(modalities, len(self.names), 2, device=device)

    @torch.no_grad()
    def add(self, name: str, values: Tensor, counts: Sequence[int], weights: Tensor | None = None) -> None:
        """values [image], modality after modality; counts: images of each. weights: 0 for those without a value."""
        weights = torch.ones_like(values) if weights is None else weights.to(values.dtype)
        both = torch.stack([values.detach() * weights, weights])
        sums = torch.stack([block.sum(1) for block in both.split(list(counts), dim=1)])
        self.sums[:, self.names.index(name)] += sums.to(self.sums.dtype)

    @torch.no_grad()
    def add_spread(self, name: str, features: Tensor, counts: Sequence[int]) -> None:
        """Mean standard deviation of the features [image, F] within each modality."""
        blocks = features.detach().split(list(counts))
        spreads = [block.std(0, correction=0).mean().expand(len(block)) for block in blocks]
        self.add(name, torch.cat(spreads), counts)

    def read(self) -> list[dict[str, float]]:
        """Means since the last reading, over all ranks, per modality, 0 where there was no value; resets the sums."""
        sums = all_reduce(self.sums.clone())
        self.sums.zero_()
        means = sums[..., 0] / sums[..., 1].clamp_min(1.0)
        return [dict(zip(self.names, row, strict=True)) for row in means.tolist()]
