"""BatchNorm over the samples of all ranks, on any device (torch's own SyncBatchNorm refuses CPU tensors).

Mean and variance are those of the joined batch, also with unequal and with empty counts per rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scoutview.encoders import at_least_fp32


class _SumOverRanks(torch.autograd.Function):
    """y = sum_r x_r on every rank. Every rank's loss sees y, so the gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def sum_over_ranks(x: Tensor) -> Tensor:
    """The differentiable sum of a tensor of equal shape on all ranks."""
    total: Tensor = _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]
    return total


class SyncBatchNorm(_BatchNorm):
    """BatchNorm for [sample, channel, ...] whose statistics are summed over ranks while training."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        if input.dim() < 2:
            raise ValueError(f"BatchNorm needs [sample, channel, ...], not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise; in evaluation mode with the running statistics."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        x = at_least_fp32(input)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.new_full((1,), x.numel() / x.shape[1])
        # Two passes: the variance of large means is not lost to cancellation.
        total = sum_over_ranks(torch.cat([x.sum(axes), count]))
        size = total[-1:].detach()
        mean = total[:-1] / size
        centred = x - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(axes)) / size
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                momentum = self.momentum if self.momentum is not None else 0.1
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * size / (size - 1).clamp_min(1), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        final: Tensor = result.to(input.dtype)
        return final


def convert_batchnorm(module: nn.Module, device: str) -> nn.Module:
    """Replace every BatchNorm by its synchronised form: torch's on GPUs, ours elsewhere. Names and state stay."""
    if device == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
            twin = SyncBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            twin.load_state_dict(child.state_dict())
            twin.train(child.training)
            setattr(module, name, twin)
        else:
            convert_batchnorm(child, device)
    return module
