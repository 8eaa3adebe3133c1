"""What the benchmarks of training share: a batch of canvases, a whole step as the loop makes it, its encoder alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from scoutview.batches.loader import ViewSample, collate_views
from scoutview.batches.sampler import Draw
from scoutview.encoders import checkpoint_blocks, make_encoder
from scoutview.images import Spectrum, radial_spectrum
from scoutview.pretraining import Recipe, Settings, load_recipe, resolve
from scoutview.pretraining.methods import make_method, make_network
from scoutview.pretraining.steps import update, whole_step
from scoutview.pretraining.swav import Swav
from scoutview.training import Stages, convert_batchnorm, make_optimizer
from scoutview.views import Canvas, ReferenceEnergies, ViewBatch, canvas_of, draw_parameters, render_views

SIDE = 1024
MODALITIES = ("xray", "ct", "mr", "us")
MANY = 1_000_000
"""Images of a modality, as far as prototypes and queues depend on it."""


@cache
def picture(number: int, side: int = SIDE) -> npt.NDArray[np.float32]:
    """A grey image [side, side] in [0, 1] whose amplitude falls as one over frequency."""
    noise = np.fft.rfft2(np.random.default_rng(number).standard_normal((side, side)))
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    radius[0, 0] = 1.0
    image = np.fft.irfft2(noise / radius**1.2, s=(side, side))
    scaled: npt.NDArray[np.float32] = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    return scaled


@cache
def _canvas(number: int, side: int) -> tuple[Canvas, Spectrum]:
    return canvas_of(picture(number, side)), radial_spectrum(picture(number, side))


def references() -> ReferenceEnergies:
    """Energies near those of the pictures."""
    mean = np.tile([0.01, 0.02, 0.03, 0.04, 0.05, 0.15], (16, 1))
    return ReferenceEnergies(np.geomspace(32, 1200, 16), mean, mean / 4)


def batch_of(recipe: Recipe, images: int, step: int, side: int = SIDE) -> ViewBatch:
    """Canvases and view parameters of a batch; eight different images, which other views make different."""
    samples = []
    for place in range(images):
        canvas, spectrum = _canvas(place % 8, side)
        parameters = draw_parameters(
            recipe.view_settings(), (side, side), spectrum, references(), seed=0, step=step, position=place
        )
        samples.append(ViewSample(Draw(step, place, place), canvas, parameters))
    return collate_views(samples).views


def settings_of(name: str, **changes: object) -> Settings:
    """A recipe as it would be resolved on an archive of millions: one modality for xray_2d, four for the others."""
    recipe = load_recipe(name, changes)
    modalities = MODALITIES[:1] if name == "xray_2d" else MODALITIES
    return resolve(recipe, dict.fromkeys(modalities, MANY))


class Step:
    """A whole step of a rank: views, both passes, codes, check, LARC, SGD, queue; and its encoder alone.

    images: of this rank. queue: features per modality and code crop on this rank; full from the start.
    """

    def __init__(self, settings: Settings, images: int, fabric: Fabric, queue: int | None = None) -> None:
        recipe = settings.recipe
        share = images // len(settings.prototypes)
        if queue is not None:
            settings = replace(settings, queue=dict.fromkeys(settings.queue, queue))
        settings = replace(settings, recipe=replace(recipe, batch_size=images * fabric.world_size))
        torch.manual_seed(0)
        encoder = make_encoder(recipe.encoder)
        if recipe.checkpoint_activations:
            checkpoint_blocks(encoder)
        network = make_network(settings, encoder)
        if fabric.world_size > 1:
            convert_batchnorm(network, fabric.device.type)
        network.to(fabric.device)
        network.to(memory_format=torch.channels_last)
        if settings.compile:
            network.compile_encoder()
        self.recipe, self.network, self.fabric = settings.recipe, network, fabric
        optimizer = make_optimizer(network.parameters(), 1e-4, recipe.momentum)
        counts = [[share] * len(settings.prototypes)] * fabric.world_size
        self.method = cast(Swav, make_method(settings, network, fabric.global_rank, counts, fabric.device))
        for number, features in enumerate(self.method.queue.features):
            self.method.queue.features[number] = F.normalize(torch.randn_like(features), dim=2)
            self.method.queue.filled[number] = features.shape[1]
        self.model, self.wrapped = fabric.setup(network, optimizer)
        self.stages = Stages(fabric.device)
        self.sizes = recipe.view_settings().view_sizes()
        self.number = max(recipe.queue_start, recipe.freeze_prototypes)
        network.train()

    def views(self, batch: ViewBatch) -> list[Tensor]:
        """The crops of a batch."""
        return render_views(batch.to(self.fabric.device), self.sizes)

    def whole(self, batch: ViewBatch) -> None:
        """One step of the loop, without its log."""
        views = self.views(batch)
        self.stages.mark("views")
        self.wrapped.zero_grad(set_to_none=True)
        loss = whole_step(self.fabric, self.model, self.method, views, self.number, self.stages)
        update(self.network, self.wrapped, self.method, loss, self.number)
        self.stages.mark("method")

    def bare(self, views: list[Tensor]) -> None:
        """The encoder's two passes over the same crops, in the same precision, and nothing else."""
        self.network.zero_grad(set_to_none=True)
        with self.fabric.autocast():
            total = torch.stack([self.network.encode(group.flatten(0, 1)).float().square().mean() for group in views])
        total.sum().backward()


def kept_bytes(step: Step, views: list[Tensor]) -> int:
    """Bytes that the forward pass keeps for the backward pass, weights left out."""
    storages: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in step.network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step.model(views, step.method.counts)
    return sum(storages.values())


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds, once the device has done it."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
