"""Forward and backward pass of one step, with all images at once or a part of them at a time, and the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

from scoutview.encoders import running_statistics_kept
from scoutview.pretraining.method import Method
from scoutview.pretraining.recipe import Recipe
from scoutview.training import Stages, all_reduce, make_adamw, make_optimizer, scale_gradients


def whole_step(
    fabric: Fabric,
    model: Any,
    method: Method,
    views: Sequence[Tensor],
    step: int,
    stages: Stages,
    index: Tensor | None = None,
) -> Tensor:
    """Forward and backward with all images at once; the loss, detached. index [image]: numbers in the archive."""
    outputs = model(views, method.counts)
    stages.mark("encoder")
    loss = method.loss_of(outputs, method.targets(views, outputs, step, index))
    stages.mark("method")
    fabric.backward(loss)
    stages.mark("communication" if method.ranks > 1 else "encoder")
    return loss.detach()


def step_in_parts(
    fabric: Fabric,
    model: Any,
    method: Method,
    views: Sequence[Tensor],
    step: int,
    stages: Stages,
    index: Tensor | None = None,
) -> Tensor:
    """The same with a part of the images at a time: once without gradients for the targets of all, then for each.

    Targets are those of the whole batch, as without parts; BatchNorm sees one part.
    """
    parts = method.recipe.accumulate
    counts = [count // parts for count in method.counts]
    blocks = [[block.tensor_split(parts, 1) for block in group.split(method.counts, dim=1)] for group in views]
    split = [[torch.cat([block[part] for block in group], dim=1) for group in blocks] for part in range(parts)]
    with torch.no_grad(), running_statistics_kept(method.network):
        seen = [model(part, counts) for part in split]
    stages.mark("encoder")
    targets = method.parted(method.targets(views, method.joined(seen, counts), step, index), parts)
    stages.mark("method")
    total = views[0].new_zeros(())
    for number, part in enumerate(split):
        last = number == parts - 1
        with fabric.no_backward_sync(model, enabled=not last):
            loss = method.loss_of(model(part, counts), targets[number])
            fabric.backward(loss)
        total = total + loss.detach()
    stages.mark("communication" if method.ranks > 1 else "encoder")
    return total


def gradient_norm(network: torch.nn.Module) -> Tensor:
    """L2 norm of all gradients together."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    norm: Tensor = torch.stack(torch._foreach_norm(gradients)).norm()
    return norm


def all_finite(loss: Tensor, norm: Tensor) -> Tensor:
    """The same answer on all ranks, on the device: 1.0 if loss and gradients are finite everywhere, else 0.0."""
    return all_reduce((torch.isfinite(loss) & torch.isfinite(norm)).float(), dist.ReduceOp.MIN)


def optimizer_of(network: torch.nn.Module, recipe: Recipe, rate: float) -> torch.optim.SGD | torch.optim.AdamW:
    """The optimizer that a recipe names, for everything that has gradients."""
    if recipe.optimizer == "adamw":
        return make_adamw(network.parameters(), rate, recipe.weight_decay)
    return make_optimizer(network.parameters(), rate, recipe.momentum)


def update(network: torch.nn.Module, optimizer: Any, method: Method, loss: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Behind the backward pass: the check, LARC and SGD or AdamW, and what the method does around them.

    optimizer: of `optimizer_of`, as Fabric wraps it. Returns (gradient norm, 1.0 if the step was made, 0.0 if it was
    not finite somewhere), on the device.
    """
    method.after_backward(step)
    norm = gradient_norm(network)
    good = all_finite(loss, norm)
    optimizer.optimizer.found_inf = 1.0 - good
    if method.recipe.optimizer == "larc":
        scale_gradients(network.parameters(), method.recipe.trust, method.recipe.weight_decay)
    optimizer.step()
    method.after_step(step, good > 0)
    return norm, good
