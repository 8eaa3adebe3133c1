"""Codes by Sinkhorn-Knopp (Eq. 3 and 4): equipartition of the samples over the prototypes, per modality and crop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from scoutview.encoders import at_least_fp32


@torch.no_grad()
def sinkhorn_codes(scores: Sequence[Tensor], epsilon: float, rounds: int) -> list[Tensor]:
    """Codes q of the samples, one block per (modality, crop), balanced over the samples of all ranks.

    scores: blocks [sample, prototype] of cosines; the numbers of samples and of prototypes may differ, and a rank
        may have no sample of a block. Every rank passes the same number of blocks.
    Returns blocks [sample, prototype] whose rows sum to 1.

    Q = exp((scores - 1) / epsilon) in fp32: with |scores| <= 1 this one constant shift keeps all entries normal
    (a shift per sample would change the result). Each round: prototypes to equal mass, then samples. What is common
    to a whole block (B, K, the total) cancels in the last normalisation, so only the prototype sums cross ranks: all
    blocks in one all-reduce a round.
    """
    blocks = [torch.exp((at_least_fp32(block) - 1.0) / epsilon) for block in scores]
    sizes = [block.shape[1] for block in blocks]
    for _ in range(rounds):
        sums = torch.cat([block.sum(0) for block in blocks])
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(sums)
        # A block without a sample on any rank has no mass to share out.
        sums = torch.where(sums > 0, sums, torch.ones_like(sums))
        for number, mass in enumerate(sums.split(sizes)):
            block = blocks[number] / (mass * len(mass))
            blocks[number] = block / block.sum(1, keepdim=True)
    return blocks
