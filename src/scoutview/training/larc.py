"""LARC: layer-wise adaptive rates (You, Gitman, Ginsburg 2017), applied to gradients before a plain SGD step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_TINY = 1e-8


@torch.no_grad()
def scale_gradients(parameters: Iterable[Tensor], trust: float, weight_decay: float) -> None:
    """In place, per parameter p with gradient g:  g <- (g + wd p) * trust |p| / (|g| + wd |p| + 1e-8).

    No clipping, every parameter (biases and BatchNorm too), as SwAV trains. Where |p| or |g| is 0, g stays as it
    is: a bias that starts at zero takes its first step at the plain learning rate. Parameters without a gradient
    (frozen prototypes) are passed over. All lists are handled by torch's own loops; nothing waits for the device.
    """
    kept = [parameter for parameter in parameters if parameter.grad is not None]
    if not kept:
        return
    gradients = [parameter.grad for parameter in kept if parameter.grad is not None]
    parameter_norms = torch.stack(torch._foreach_norm(kept))
    gradient_norms = torch.stack(torch._foreach_norm(gradients))
    ratio = trust * parameter_norms / (gradient_norms + weight_decay * parameter_norms + _TINY)
    active = (parameter_norms > 0) & (gradient_norms > 0)
    factors = torch.where(active, ratio, torch.ones_like(ratio))
    torch._foreach_mul_(gradients, list(factors.unbind()))
    if weight_decay:
        decays = torch.where(active, weight_decay * ratio, torch.zeros_like(ratio))
        torch._foreach_addcmul_(gradients, kept, list(decays.unbind()))
