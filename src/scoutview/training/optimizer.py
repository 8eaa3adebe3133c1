"""The optimizers of pretraining, all parameters in one pass; both make no step where their `found_inf` is 1."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def make_optimizer(parameters: Iterable[nn.Parameter], rate: float, momentum: float) -> torch.optim.SGD:
    """Fused SGD that makes no step where its `found_inf` is 1: nothing of a step waits for the device to say so.

    Momentum begins at 0, which for a first step is the same as beginning with its gradient: torch would leave memory as
    it found it if that step was not made.
    """
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=momentum, fused=True)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def make_adamw(parameters: Iterable[nn.Parameter], rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019) for transformers; biases and normalisations do not decay."""
    kept = list(parameters)
    groups = [
        {"params": [parameter for parameter in kept if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in kept if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)
