"""BatchNorm over the samples of all ranks, on any device (torch's own SyncBatchNorm refuses CPU tensors).

Mean and variance are those of the joined batch, also with unequal and with empty counts per rank. One collective
forward and one backward; the rest are torch's own kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from scoutview.encoders import at_least_fp32
from scoutview.training.communication import all_reduce, gather


class _Normalise(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps) w + b, with mean and variance over the samples of all ranks."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: Tensor, eps: float
    ) -> Tensor:
        context.save_for_backward(x, weight, mean, variance, count)
        context.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = context.saved_tensors
        direct, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, context.eps, [True, True, True]
        )
        # Every rank's loss sees the statistics, so what goes back through them is the sum over ranks.
        through_deviation, through_mean = all_reduce(torch.stack([for_weight, for_bias])) / count
        inverse = torch.rsqrt(variance + context.eps)
        slope = -weight * inverse * inverse * through_deviation
        shape = [1, -1] + [1] * (x.dim() - 2)
        direct.addcmul_(x, slope.view(shape))
        direct.sub_((weight * inverse * through_mean + slope * mean).view(shape))
        return direct, for_weight, for_bias, None, None, None, None


class SyncBatchNorm(_BatchNorm):
    """BatchNorm for [sample, channel, ...] whose statistics are those of all ranks while training."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        if input.dim() < 2:
            raise ValueError(f"BatchNorm needs [sample, channel, ...], not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise; in evaluation mode with the running statistics."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        x = at_least_fp32(input)
        mean, variance, count = _joined_statistics(x.detach())
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            momentum = self.momentum if self.momentum is not None else 0.1
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), momentum)
                self.num_batches_tracked.add_(1)
        result: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, variance, count, self.eps)  # type: ignore[no-untyped-call]
        return result.to(input.dtype)


def _joined_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [channel], variance [channel], number of values per channel) over all ranks.

    Each rank's own variance and the spread of the ranks' means are added up (Chan, Golub, LeVeque 1979), so that the
    variance of large means is not lost to cancellation.
    """
    channels = x.shape[1]
    own = x.new_zeros(2 * channels + 1)
    if x.numel():
        # torch's own kernel for BatchNorm: ten times as fast as var_mean over channels that lie last.
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        own = torch.cat([mean, variance, x.new_full((1,), x.numel() / channels)])
    every = gather(own)
    counts = every[:, -1:]
    means, variances = every[:, :channels], every[:, channels:-1]
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean).square())).sum(0) / count
    return mean, variance, count


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
