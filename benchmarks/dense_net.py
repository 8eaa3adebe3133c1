"""The 3D dense net: time and memory of forward and backward per head CT volume of 40 x 224 x 192, in fp32.

Memory is what autograd keeps for the backward pass, each tensor counted once. The bar is the paper's machine: a GPU of
16 GB takes a batch of 4, each volume as one crop of 40 x 224 x 192 and four of 40 x 112 x 96.

Run: python benchmarks/dense_net.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch import Tensor, nn

from scoutview.encoders import make_encoder

LARGE, SMALL = (40, 224, 192), (40, 112, 96)
PER_GPU, SMALL_CROPS = 4, 4
GPU_BYTES = 16e9


def kept_bytes(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Bytes that autograd keeps of one volume, without the weights."""
    weights = {value.untyped_storage().data_ptr() for value in network.parameters()}
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        features = network(torch.rand(1, 1, *shape))
    del features
    return sum(kept.values())


def seconds(network: nn.Module, shape: tuple[int, int, int], repeats: int) -> float:
    """Least time of a forward and backward pass of one volume."""
    times = []
    for _ in range(repeats + 1):
        volume = torch.rand(1, 1, *shape)
        began = time.perf_counter()
        network(volume).square().mean().backward()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def main() -> None:
    """Measure, and print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    network = make_encoder("densenet_3d").train()
    large, small = kept_bytes(network, LARGE), kept_bytes(network, SMALL)
    batch = PER_GPU * (large + SMALL_CROPS * small)
    took = seconds(network, LARGE, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"parameters: {sum(value.numel() for value in network.parameters()):,}")
    print(f"kept for backward, 40 x 224 x 192: {large / 1e9:.2f} GB")
    print(f"kept for backward, 40 x 112 x 96: {small / 1e9:.2f} GB")
    print(f"forward and backward on {torch.get_num_threads()} CPU threads, s per volume: {took:.2f}")
    print(f"peak memory of this process: {peak / 1e9:.2f} GB")
    print(
        f"kept for backward, batch of 4 volumes and their crops, GB: {batch / 1e9:.2f} (bar: <= {GPU_BYTES / 1e9:.0f})"
    )


if __name__ == "__main__":
    main()
