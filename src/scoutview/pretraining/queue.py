"""The queue: features of the last batches, which enlarge the sample that Sinkhorn balances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from scoutview.errors import RunError


class FeatureQueue:
    """One queue per modality and code crop, the same on every rank: features [code crop, place, F] in batch order.

    It is used only when full, scored with the prototypes of the moment, and filled after use.
    """

    def __init__(self, lengths: Sequence[int], crops: int, projection: int, device: torch.device) -> None:
        self.features = [torch.zeros(crops, length, projection, device=device) for length in lengths]
        self.filled = [0] * len(self.features)

    def ready(self, modality: int) -> bool:
        """Whether the queue of a modality is in use and full."""
        length = self.features[modality].shape[1]
        return length > 0 and self.filled[modality] >= length

    def slice_of(self, modality: int, rank: int, ranks: int) -> Tensor:
        """This rank's part of a queue: [code crop, place, F]."""
        length = self.features[modality].shape[1]
        return self.features[modality][:, rank * length // ranks : (rank + 1) * length // ranks]

    @torch.no_grad()
    def enqueue(self, projections: Sequence[Tensor]) -> None:
        """Put this step's features [code crop, sample, F], per modality, in front; the oldest fall out."""
        if not any(queue.shape[1] for queue in self.features):
            return
        for modality, block in enumerate(projections):
            length = self.features[modality].shape[1]
            if length == 0:
                continue
            joined = gather_samples(block.detach())
            self.features[modality] = torch.cat([joined, self.features[modality]], dim=1)[:, :length].contiguous()
            self.filled[modality] = min(self.filled[modality] + joined.shape[1], length)

    def state_dict(self) -> dict[str, Any]:
        """The global queue, independent of the number of ranks."""
        return {"features": self.features, "filled": self.filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; lengths must be those of this run."""
        for mine, stored in zip(self.features, state["features"], strict=True):
            if mine.shape != stored.shape:
                raise RunError(f"the checkpoint's queue is {tuple(stored.shape)}, this run's {tuple(mine.shape)}")
            mine.copy_(stored)
        self.filled = list(state["filled"])


def gather_samples(block: Tensor) -> Tensor:
    """Join [crop, sample, F] of all ranks along the samples, in the order of the ranks; counts may differ."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return block
    ranks = dist.get_world_size()
    counts = [torch.zeros(1, dtype=torch.long, device=block.device) for _ in range(ranks)]
    dist.all_gather(counts, torch.tensor([block.shape[1]], device=block.device))
    sizes = [int(count) for count in counts]
    padded = F.pad(block, (0, 0, 0, max(sizes) - block.shape[1])).contiguous()
    parts = [torch.empty_like(padded) for _ in range(ranks)]
    dist.all_gather(parts, padded)
    return torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], dim=1)
