"""Activation checkpointing: blocks are computed again in the backward pass instead of being remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from scoutview.encoders.densenet import DenseBlock
from scoutview.encoders.resnet import Block
from scoutview.encoders.vit import TransformerBlock


def checkpoint_blocks(network: nn.Module) -> None:
    """Have every block of a network forget its inner activations; its weights keep their names."""
    for module in network.modules():
        if isinstance(module, Block | DenseBlock | TransformerBlock):
            module.forward = partial(_again, module, module.forward)  # type: ignore[method-assign]


def _again(block: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not block.training or not is_grad_enabled():
        return forward(x)
    result: Tensor = checkpoint(
        forward,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), running_statistics_kept(block)),
    )
    return result


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """A second pass over the same samples changes the running statistics of no BatchNorm."""
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        layer.num_batches_tracked = layer.num_batches_tracked.clone() if layer.num_batches_tracked is not None else None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
