"""One rank's part of a joined batch: loss, gradients and codes, written to a file. Run under torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from scoutview.encoders import make_encoder
from scoutview.pretraining.labels import Labels
from scoutview.pretraining.methods import make_method, make_network
from scoutview.pretraining.recipe import make_recipe
from scoutview.pretraining.settings import resolve
from scoutview.pretraining.swav import Swav
from scoutview.training import convert_batchnorm

MODALITIES = ("xray", "ct")


def make_views(total: list[int], seed: int) -> list[list[torch.Tensor]]:
    """Views of the joined batch in two groups of equal size, per modality: [modality][group] -> [view, image, ...]."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.rand(views, count, 1, size, size, generator=generator) for views, size in ((2, 48), (3, 32))]
        for count in total
    ]


RECIPE = {
    "encoder": "resnet18w0.25",
    "batch_size": 16,
    "crops": (2, 3),
    "sizes": (48, 32),
    "prototypes": 5,
    "queue": 8,
    "queue_start": 0,
    "projection": 16,
    "projector_hidden": 32,
    "freeze_prototypes": 0,
}


def labels_of(total: list[int], first: list[int]) -> Labels:
    """Two findings, the second of them of every other image only; of each modality's images from `first` on."""
    indices = [100 * m + place for m in range(2) for place in range(first[m], total[m])]
    values = np.array([[number % 2, 1.0 if number % 4 < 2 else np.nan] for number in range(len(indices))], np.float32)
    return Labels(("a", "b"), False, np.array(indices), values)


def run(counts: list[list[int]], rank: int, ranks: int, steps: int, changes: dict | None = None) -> dict:
    """Three steps of which the last has a full queue; counts[rank][modality] images; returns loss and gradients.

    changes: of the recipe; with a label, only what lies on the last of the ranks in `counts` has one.
    """
    recipe = make_recipe({**RECIPE, **(changes or {})})
    settings = resolve(recipe, dict.fromkeys(MODALITIES, 100))
    total = [sum(row[number] for row in counts) for number in range(2)]
    labels = labels_of(total, [sum(row[m] for row in counts[:-1]) for m in range(2)]) if recipe.label else None
    torch.manual_seed(0)
    network = make_network(settings, make_encoder("resnet18w0.25"), labels)
    if ranks > 1:
        convert_batchnorm(network, "cpu")
    network = network.double()  # so that what differs is not rounding
    model = DistributedDataParallel(network) if ranks > 1 else network
    method = make_method(settings, network, rank, counts if ranks > 1 else [total], torch.device("cpu"), labels)
    for step in range(steps):
        joined = make_views(total, step)
        first = [sum(counts[r][number] for r in range(rank)) if ranks > 1 else 0 for number in range(2)]
        mine = counts[rank] if ranks > 1 else total
        groups = [
            torch.cat([joined[m][group][:, first[m] : first[m] + mine[m]] for m in range(2)], dim=1).double()
            for group in range(len(recipe.crops))
        ]
        index = torch.tensor([100 * m + place for m in range(2) for place in range(first[m], first[m] + mine[m])])
        network.zero_grad(set_to_none=True)
        loss = method.loss(model, groups, step, index)
        loss.backward()
        if step < steps - 1:
            method.after_step(step)
    if ranks > 1:
        average = loss.detach().clone()
        dist.all_reduce(average)
        loss = average / ranks
    return {
        "loss": float(loss),
        "queue": method.queue.features if isinstance(method, Swav) else [],
        "gradients": {name: p.grad for name, p in network.named_parameters()},
        "telemetry": method.lines(),
    }


if __name__ == "__main__":
    out, text, *rest = sys.argv[1:]
    shares = [[int(part) for part in row.split(",")] for row in text.split("/")]
    changes = json.loads(rest[0]) if rest else {}
    dist.init_process_group("gloo")
    result = run(shares, dist.get_rank(), dist.get_world_size(), 3, changes)
    torch.save(result, Path(out) / f"rank{dist.get_rank()}.pt")
    dist.destroy_process_group()
