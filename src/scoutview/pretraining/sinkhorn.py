"""Codes by Sinkhorn-Knopp (Eq. 3 and 4): equipartition of the samples over the prototypes, per modality and crop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scoutview.encoders import at_least_fp32
from scoutview.training import all_reduce


@torch.no_grad()
def sinkhorn_codes(
    scores: Sequence[Tensor], epsilon: float, rounds: int, counts: Sequence[int] | None = None
) -> list[Tensor]:
    """Codes q of the samples, one block per (modality, crop), balanced over the samples of all ranks.

    scores: blocks [sample, prototype] of cosines; the numbers of samples and of prototypes may differ, and a rank
        may have no sample of a block. Every rank passes the same number of blocks.
    counts: of each block, how many of its first samples are asked for; all by default.
    Returns blocks [sample, prototype] whose rows sum to 1.

    Q = exp((scores - 1) / epsilon) in fp32: with |scores| <= 1 this one constant shift keeps all entries normal
    (a shift per sample would change the result). The result is diag(v) Q diag(u): each round, u takes the prototypes to
    equal mass, then v the samples. What is common to a whole block (B, the total) cancels in the last normalisation, so
    only the prototype sums cross ranks: all blocks in one all-reduce a round. Blocks of equal shape are one product.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, block in enumerate(scores):
        groups.setdefault(tuple(block.shape), []).append(number)
    stacks = [
        torch.exp((at_least_fp32(torch.stack([scores[number] for number in held])) - 1.0) / epsilon)
        for held in groups.values()
    ]
    samples = [stack.new_ones(*stack.shape[:2], 1) for stack in stacks]
    prototypes = [stack.new_ones(stack.shape[0], 1, stack.shape[2]) for stack in stacks]
    # Every rank sums in the order of the blocks, whatever shapes its own samples give them.
    order = [_find(groups, number) for number in range(len(scores))]
    sizes = [block.shape[1] for block in scores]
    for _ in range(rounds):
        sums = [torch.bmm(v.transpose(1, 2), stack) for stack, v in zip(stacks, samples, strict=True)]
        joined = all_reduce(torch.cat([sums[group][place, 0] for group, place in order]))
        # A block without a sample on any rank has no mass to share out.
        joined = torch.where(joined > 0, joined, torch.ones_like(joined))
        parts = joined.split(sizes)
        for group, held in enumerate(groups.values()):
            mass = torch.stack([parts[number] for number in held])[:, None]
            # To equal mass; the mean keeps both factors from growing with the rounds.
            prototypes[group] = mass.mean(2, keepdim=True) / mass
            samples[group] = 1.0 / torch.bmm(stacks[group], prototypes[group].transpose(1, 2))
    codes: list[Tensor] = []
    for number, (group, place) in enumerate(order):
        count = scores[number].shape[0] if counts is None else counts[number]
        codes.append(stacks[group][place, :count] * samples[group][place, :count] * prototypes[group][place])
    return codes


def _find(groups: dict[tuple[int, ...], list[int]], number: int) -> tuple[int, int]:
    return next((group, held.index(number)) for group, held in enumerate(groups.values()) if number in held)
