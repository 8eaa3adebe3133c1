"""The queue: features of the last batches, which enlarge the sample that Sinkhorn balances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scoutview.errors import RunError
from scoutview.training import gather_samples


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
    def enqueue(
        self, projections: Sequence[Tensor], counts: Sequence[Sequence[int]], good: Tensor | None = None
    ) -> None:
        """Put this step's features [code crop, sample, F], per modality, in front; the oldest fall out.

        counts [rank, modality]: samples of each rank. good: whether they are finite; else the newest stand twice.
        """
        if not any(queue.shape[1] for queue in self.features):
            return
        everything = gather_samples(torch.cat(list(projections), dim=1).detach(), [sum(row) for row in counts])
        parts = iter(everything.split([count for row in counts for count in row], dim=1))
        ranks = [[next(parts) for _ in row] for row in counts]
        for modality, queue in enumerate(self.features):
            length = queue.shape[1]
            if length == 0:
                continue
            joined = torch.cat([row[modality] for row in ranks], dim=1)[:, :length]
            if good is not None:
                joined = torch.where(good, joined, queue[:, : joined.shape[1]])
            self.features[modality] = torch.cat([joined, queue[:, : length - joined.shape[1]]], dim=1)
            self.filled[modality] = min(self.filled[modality] + joined.shape[1], length)

    def state_dict(self) -> dict[str, Any]:
        """The global queue, independent of the number of ranks."""
        return {"features": self.features, "filled": self.filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; lengths must be those of this run."""
        for mine, stored in zip(self.features, state["features"], strict=True):
            if mine.shape != stored.shape:
                raise RunError(
                    f"the checkpoint has a queue of {tuple(stored.shape)}, this run one of {tuple(mine.shape)}: "
                    "it is of another run, give another --out"
                )
            mine.copy_(stored)
        self.filled = list(state["filled"])
