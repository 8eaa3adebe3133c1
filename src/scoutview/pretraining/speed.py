"""How fast the device of this machine makes views and trains on them: a few steps of the loop without its data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from lightning_fabric import Fabric

from scoutview.batches.loader import ViewSample, collate_views
from scoutview.encoders import make_encoder
from scoutview.pretraining.labels import Labels
from scoutview.pretraining.methods import make_method, make_network
from scoutview.pretraining.recipe import Recipe
from scoutview.pretraining.settings import resolve
from scoutview.pretraining.steps import optimizer_of, update
from scoutview.training import make_fabric
from scoutview.views import render_views

MOST_STEPS = 10
_FIRST = 2
"""Images per modality of the first try: BatchNorm needs two."""


@dataclass(frozen=True)
class StepSpeed:
    """Seconds of one step of `images` images: moving and rendering their views, and encoder, loss and optimizer."""

    images: int
    steps: int
    views: float
    encoder: float


def measure_steps(
    recipe: Recipe, counts: Mapping[str, int], samples: Sequence[Sequence[ViewSample]], share: int, seconds: float
) -> StepSpeed:
    """Time training steps on samples of each modality for about `seconds`.

    counts: images per modality, for settings that depend on them. share: images of each modality per GPU; it is made
    smaller when a step would take too long, which a CPU hardly notices and a GPU would.
    """
    fabric = make_fabric(resolve(recipe, counts).precision)
    share = max(share, _FIRST)
    speed = _measure(recipe, counts, samples, _FIRST, fabric, 0.0)
    per_image = (speed.views + speed.encoder) / speed.images
    while share > _FIRST and share * len(samples) * per_image > seconds / 3:
        share //= 2
    return speed if share <= _FIRST else _measure(recipe, counts, samples, share, fabric, seconds)


def _measure(
    recipe: Recipe,
    counts: Mapping[str, int],
    samples: Sequence[Sequence[ViewSample]],
    share: int,
    fabric: Fabric,
    seconds: float,
) -> StepSpeed:
    settings = resolve(replace(recipe, batch_size=share * len(samples)), counts)
    # Time does not depend on what the labels say.
    labels = Labels(("0", "1"), True, np.array([-1]), np.zeros((1, 2), np.float32)) if recipe.label else None
    network = make_network(settings, make_encoder(recipe.encoder), labels).to(fabric.device)
    network.to(memory_format=torch.channels_last)
    if settings.compile:
        network.compile_encoder()
    optimizer = optimizer_of(network, recipe, 1e-6)
    method = make_method(settings, network, 0, [[share] * len(samples)], fabric.device, labels)
    model, wrapped = fabric.setup(network, optimizer)
    chosen = [part[place % len(part)] for part in samples for place in range(share)]
    batch = collate_views(chosen)
    sizes = recipe.view_settings().view_sizes()
    network.train()
    views = encoder = 0.0
    steps = -1  # the first is not counted: memory is reserved and kernels are chosen
    began = time.perf_counter()
    while steps < 1 or (steps < MOST_STEPS and time.perf_counter() - began < seconds):
        start = _now(fabric)
        groups = render_views(batch.views.to(fabric.device), sizes)
        middle = _now(fabric)
        loss = method.loss(model, groups, recipe.queue_start, batch.index)
        wrapped.zero_grad(set_to_none=True)
        fabric.backward(loss)
        update(network, wrapped, method, loss.detach(), recipe.queue_start)
        end = _now(fabric)
        if steps >= 0:
            views, encoder = views + middle - start, encoder + end - middle
        steps += 1
    return StepSpeed(len(chosen), steps, views / steps, encoder / steps)


def _now(fabric: Fabric) -> float:
    """The clock, once the device has done what it was given."""
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)
    return time.perf_counter()
