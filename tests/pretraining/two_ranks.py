"""One rank's part of a joined batch: loss, gradients and codes, written to a file. Run under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from scoutview.encoders import make_encoder
from scoutview.pretraining.recipe import Recipe, resolve
from scoutview.pretraining.swav import Swav, SwavNetwork
from scoutview.training import convert_batchnorm

MODALITIES = ("xray", "ct")


def make_views(total: list[int], seed: int) -> list[list[torch.Tensor]]:
    """Views of the joined batch in two groups of equal size, per modality: [modality][group] -> [view, image, ...]."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.rand(views, count, 1, size, size, generator=generator) for views, size in ((2, 48), (3, 32))]
        for count in total
    ]


def run(counts: list[list[int]], rank: int, ranks: int, steps: int) -> dict:
    """Three steps of which the last has a full queue; counts[rank][modality] images; returns loss and gradients."""
    recipe = Recipe(
        encoder="resnet18w0.25",
        batch_size=16,
        crops=(2, 3),
        sizes=(48, 32),
        prototypes=5,
        queue=8,
        queue_start=0,
        projection=16,
        projector_hidden=32,
        freeze_prototypes=0,
    )
    settings = resolve(recipe, dict.fromkeys(MODALITIES, 100))
    torch.manual_seed(0)
    network = SwavNetwork(make_encoder("resnet18w0.25"), 32, 16, [5, 5])
    if ranks > 1:
        convert_batchnorm(network, "cpu")
    network = network.double()  # so that what differs is not rounding
    model = DistributedDataParallel(network) if ranks > 1 else network
    total = [sum(row[number] for row in counts) for number in range(2)]
    method = Swav(settings, network, rank, counts if ranks > 1 else [total], torch.device("cpu"))
    for step in range(steps):
        joined = make_views(total, step)
        first = [sum(counts[r][number] for r in range(rank)) if ranks > 1 else 0 for number in range(2)]
        mine = counts[rank] if ranks > 1 else total
        groups = [
            torch.cat([joined[m][group][:, first[m] : first[m] + mine[m]] for m in range(2)], dim=1).double()
            for group in range(2)
        ]
        network.zero_grad(set_to_none=True)
        loss = method.loss(model, groups, step)
        loss.backward()
        if step < steps - 1:
            method.after_step(step)
    if ranks > 1:
        average = loss.detach().clone()
        dist.all_reduce(average)
        loss = average / ranks
    return {
        "loss": float(loss),
        "queue": method.queue.features,
        "gradients": {name: p.grad for name, p in network.named_parameters()},
        "telemetry": method.telemetry.read(),
    }


if __name__ == "__main__":
    out, text = sys.argv[1:]
    shares = [[int(part) for part in row.split(",")] for row in text.split("/")]
    dist.init_process_group("gloo")
    torch.save(run(shares, dist.get_rank(), dist.get_world_size(), 3), Path(out) / f"rank{dist.get_rank()}.pt")
    dist.destroy_process_group()
