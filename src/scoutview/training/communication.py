"""Collectives between ranks, with the time that this process waits for them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class _Waited:
    """Seconds since the start of the process. On a GPU collectives run beside the process, which waits for none."""

    seconds = 0.0


def waited() -> float:
    """Seconds that this process has spent in the collectives of this file."""
    return _Waited.seconds


def joined() -> bool:
    """Whether there is more than one rank."""
    return dist.is_initialized() and dist.get_world_size() > 1


def all_reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """In place: the sum over all ranks, or another reduction. With one rank nothing happens."""
    if joined():
        began = time.perf_counter()
        dist.all_reduce(tensor, op=operation)
        _Waited.seconds += time.perf_counter() - began
    return tensor


def gather(tensor: Tensor) -> Tensor:
    """[rank, ...] of a tensor of equal shape on all ranks."""
    if not joined():
        return tensor.unsqueeze(0)
    began = time.perf_counter()
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    _Waited.seconds += time.perf_counter() - began
    return torch.stack(parts)


def gather_samples(block: Tensor, counts: Sequence[int]) -> Tensor:
    """Join [crop, sample, F] of all ranks along the samples, in the order of the ranks; counts: samples of each."""
    if not joined():
        return block
    most = max(counts)
    padded = torch.nn.functional.pad(block, (0, 0, 0, most - block.shape[1]))
    parts = gather(padded)
    return torch.cat([part[:, :count] for part, count in zip(parts, counts, strict=True)], dim=1)
