"""Is it learning? Per modality: loss - ln K, entropy of the codes, prototypes in use, spread of the features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scoutview.training import all_reduce

SAMPLES_PER_PROTOTYPE = 20
"""Prototype use is counted over at least this many samples per prototype."""


class Telemetry:
    """Sums since the last log line, and the last assignments of each modality; nothing leaves the device until read.

    prototypes: K_m; shares: samples of each modality per step on this rank.
    """

    def __init__(self, prototypes: Sequence[int], shares: Sequence[int], ranks: int, device: torch.device) -> None:
        self.prototypes = list(prototypes)
        self.ranks = ranks
        self.sums = torch.zeros(len(self.prototypes), 4, device=device)
        lengths = [
            max(math.ceil(SAMPLES_PER_PROTOTYPE * count / ranks / max(share, 1)), 1) * max(share, 1)
            for count, share in zip(prototypes, shares, strict=True)
        ]
        self.assigned = [torch.full((length,), -1, dtype=torch.int32, device=device) for length in lengths]

    @torch.no_grad()
    def add(self, codes: Sequence[Tensor], scores: Sequence[Tensor], features: Sequence[Tensor]) -> None:
        """Take in one step, per modality: codes and scores of the code crops [crop, sample, K], projections of the
        first code crop [sample, F]."""
        for number, (code, score, feature) in enumerate(zip(codes, scores, features, strict=True)):
            count = code.shape[1]
            if count == 0:
                continue
            entropy = -(code * torch.log(code.clamp_min(1e-30))).sum(2).mean(0).sum()
            spread = feature.std(0, correction=0).mean() * count
            self.sums[number, 1:] += torch.stack([entropy, spread, spread.new_full((), float(count))])
            # The argmax of the scores: codes are equipartitioned and would show every prototype in use.
            newest = score[0].argmax(1).to(torch.int32)
            self.assigned[number] = torch.cat([newest, self.assigned[number]])[: len(self.assigned[number])]

    @torch.no_grad()
    def add_losses(self, losses: Sequence[Tensor]) -> None:
        """Take in the losses [sample] of samples of the step, per modality."""
        self.sums[:, 0] += torch.stack([loss.sum() for loss in losses])

    def read(self) -> list[dict[str, float]]:
        """Means since the last reading, over all ranks, per modality; resets the sums."""
        sums = self.sums.clone()
        counts = [
            torch.bincount(assigned[assigned >= 0].long(), minlength=count)
            for assigned, count in zip(self.assigned, self.prototypes, strict=True)
        ]
        all_reduce(sums)
        counts = list(all_reduce(torch.cat(counts)).split(self.prototypes))
        self.sums.zero_()
        lines = []
        for row, used, count in zip(sums.tolist(), counts, self.prototypes, strict=True):
            samples = max(row[3], 1.0)
            lines.append(
                {
                    "loss": row[0] / samples,
                    "ln_k": math.log(count),
                    "code_entropy": row[1] / samples,
                    "prototypes_used": float((used > 0).float().mean()),
                    "feature_std": row[2] / samples,
                }
            )
        return lines

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs so that the next log line is that of an undisturbed run."""
        return {"sums": self.sums, "assigned": self.assigned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; with another number of ranks the assignments are collected afresh."""
        if all(mine.shape == stored.shape for mine, stored in zip(self.assigned, state["assigned"], strict=True)):
            self.sums.copy_(state["sums"])
            self.assigned = [stored.to(self.sums.device) for stored in state["assigned"]]
