"""Swapped prediction (Eq. 1 and 4): each view predicts the codes of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from scoutview.encoders import at_least_fp32


def swapped_prediction(
    scores: Sequence[Tensor], codes: Sequence[Tensor], code_crops: Sequence[int], temperature: float
) -> list[Tensor]:
    """Loss of each sample, per modality.

    scores, per modality [view, sample, prototype]: cosines z^T C_m. codes, per modality [code crop, sample,
    prototype]: no gradient.
    Returns per modality [sample]: the mean over code crops s of the mean over all views t other than s of
    -sum_k q_s log softmax(z_t C_m / tau). (Eq. 1 sums the two terms of two views; a mean differs by a factor.)
    """
    losses = []
    for block, targets in zip(scores, codes, strict=True):
        log_p = F.log_softmax(at_least_fp32(block) / temperature, dim=2)
        views = block.shape[0]
        # The sum over all views minus the own one: one product instead of one per pair.
        others = log_p.sum(0, keepdim=True) - log_p[list(code_crops)]
        losses.append(-(targets.detach() * others).sum(2).mean(0) / (views - 1))
    return losses


def global_mean(losses: Sequence[Tensor], global_count: int, ranks: int) -> Tensor:
    """Local sum x ranks / global count: gradients averaged over ranks are those of the mean over the global batch.

    A rank without a sample contributes 0, with gradients.
    """
    return torch.stack([block.sum() for block in losses]).sum() * ranks / global_count
