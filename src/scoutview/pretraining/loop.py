"""The training loop, top to bottom: data, views, loss, backward, check, step, telemetry, probe, checkpoint."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

from scoutview.batches import Archive, BatchPlan, TrainingBatch, view_loader
from scoutview.batches.loader import ViewDataset
from scoutview.encoders import Encoder, make_encoder, save_encoder
from scoutview.errors import RunError
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining.collapse import LINES, collapse_warning
from scoutview.pretraining.damage import DamageCount
from scoutview.pretraining.recipe import Settings
from scoutview.pretraining.swav import Swav, SwavNetwork
from scoutview.training import (
    LabelTask,
    RunFolder,
    convert_batchnorm,
    cosine_with_warmup,
    knn_probe,
    latest_checkpoint,
    load_checkpoint,
    probe_tasks,
    save_checkpoint,
    scale_gradients,
)
from scoutview.training.run_folder import read_metrics
from scoutview.views import render_views

PROBE_IMAGES = 400
"""Most images of a label in the bank, and in the query, of the probe during training."""


@dataclass
class Progress:
    """What changes from step to step beside the network; all of it is in the checkpoint."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_probe: float = 0.0
    warned: bool = False


def run_pretraining(
    archive: Archive,
    settings: Settings,
    run: RunFolder,
    fabric: Fabric,
    provenance: dict[str, Any],
    initial: Encoder | None = None,
) -> Encoder:
    """Train until `steps`, from the run's newest checkpoint if it has one, and write the encoder file.

    Args:
        archive: the images.
        settings: a resolved recipe.
        run: where metrics, checkpoints and encoder go.
        fabric: device, precision and ranks.
        provenance: kept in the encoder file.
        initial: weights to start from instead of random ones.

    Raises:
        RunError: if the loss stays non-finite, or a stored image is damaged (more than a few, if they are replaced).
    """
    recipe = settings.recipe
    preprocessing = initial.preprocessing if initial else Preprocessing()
    selections = archive.select(recipe.splits, recipe.where)
    plan = BatchPlan.make(selections, recipe.batch_size, recipe.seed, fabric.world_size, recipe.damaged == "replace")

    torch.manual_seed(recipe.seed)
    encoder = initial.network if initial else make_encoder(recipe.encoder)
    network = SwavNetwork(encoder, settings.projector_hidden, recipe.projection, list(settings.prototypes.values()))
    if fabric.world_size > 1:
        convert_batchnorm(network, fabric.device.type)
    network.to(fabric.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, foreach=True)
    method = Swav(settings, network, fabric.global_rank, fabric.world_size, fabric.device)
    progress = Progress()
    restore(run, network, optimizer, method, progress)
    model, wrapped = fabric.setup(network, optimizer)

    dataset = ViewDataset(
        archive,
        preprocessing,
        recipe.view_settings(),
        {name: archive.reference_energies(name, preprocessing.identity()) for name in selections},
        recipe.seed,
    )
    loader = view_loader(
        dataset,
        plan,
        progress.step,
        recipe.steps,
        rank=fabric.global_rank,
        ranks=fabric.world_size,
        workers=settings.workers,
    )
    tasks = probe_tasks(archive, PROBE_IMAGES) if settings.probe_every and fabric.global_rank == 0 else []
    counts = [plan.share // fabric.world_size] * len(plan.modalities)
    sizes = recipe.view_settings().view_sizes()
    finished = Encoder(recipe.encoder, encoder, preprocessing, settings.input_size, provenance)
    clock, damage = Clock(), DamageCount(fabric.global_rank)
    recent = deque((line for line in read_metrics(run.path) if "modalities" in line), maxlen=LINES)

    network.train()
    while progress.step < recipe.steps:
        step = progress.step
        batch: TrainingBatch = clock.waiting(lambda: next(loader))
        damage.add(batch, run)
        rate = cosine_with_warmup(step, recipe.steps, recipe.warmup, recipe.learning_rate, recipe.final_learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate

        views = render_views(batch.views.to(fabric.device), sizes)
        loss = method.loss(model, views, counts, step)
        wrapped.zero_grad(set_to_none=True)
        fabric.backward(loss)
        method.after_backward(step)

        norm = gradient_norm(network)
        if all_finite(loss.detach(), norm, fabric.world_size):
            scale_gradients(network.parameters(), recipe.trust, recipe.weight_decay)
            wrapped.step()
            method.after_step(step)
            progress.skipped_in_a_row = 0
        else:
            progress.skipped += 1
            progress.skipped_in_a_row += 1
            if progress.skipped_in_a_row >= recipe.skip_limit:
                raise diverged(run, network, batch, float(loss), float(norm))
        progress.step = step = step + 1

        if step % recipe.log_every == 0 or step == recipe.steps:
            log_step(
                run,
                plan,
                method,
                progress,
                loss=loss,
                norm=norm,
                rate=rate,
                clock=clock,
                recipe=settings,
                recent=recent,
            )
        if tasks and (step % settings.probe_every == 0 or step == recipe.steps):
            probe_step(run, archive, finished, tasks, progress, fabric.device.type, settings)
            network.train()
        if step % settings.checkpoint_every == 0 or step == recipe.steps:
            if fabric.global_rank == 0:
                save_checkpoint(
                    run.path / "checkpoints", step, state_of(network, optimizer, method, progress), recipe.keep
                )
            fabric.barrier()

    if fabric.global_rank == 0:
        save_encoder(finished, run.path / "encoder.safetensors")
    fabric.barrier()
    return finished


class Clock:
    """Time since the last log line, and the part of it spent waiting for data."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.waited = 0.0

    def waiting(self, fetch: Callable[[], TrainingBatch]) -> TrainingBatch:
        """Run `fetch` and count its time as waiting."""
        before = time.monotonic()
        result = fetch()
        self.waited += time.monotonic() - before
        return result

    def lap(self) -> tuple[float, float]:
        """(seconds, share of them spent waiting) since the last lap."""
        seconds = time.monotonic() - self.began
        share = self.waited / max(seconds, 1e-9)
        self.began, self.waited = time.monotonic(), 0.0
        return seconds, share


def gradient_norm(network: torch.nn.Module) -> Tensor:
    """L2 norm of all gradients together."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    norm: Tensor = torch.stack(torch._foreach_norm(gradients)).norm()
    return norm


def all_finite(loss: Tensor, norm: Tensor, ranks: int) -> bool:
    """The same answer on all ranks: are loss and gradients finite everywhere?"""
    good = (torch.isfinite(loss) & torch.isfinite(norm)).float()
    if ranks > 1:
        dist.all_reduce(good, op=dist.ReduceOp.MIN)
    return bool(good)


def diverged(run: RunFolder, network: torch.nn.Module, batch: TrainingBatch, loss: float, norm: float) -> RunError:
    """Save what is needed to replay the step, and say so."""
    path = run.path / "replay.pt"
    if run.writes:
        torch.save({"step": batch.step, "index": batch.index, "network": network.state_dict()}, path)
    return RunError(
        f"step {batch.step}: loss {loss} and gradient norm {norm} stayed non-finite over the allowed steps in a row; "
        f"the step can be replayed from {path}; likely causes: a learning rate too high, or bf16 where fp32 is needed"
    )


def log_step(
    run: RunFolder,
    plan: BatchPlan,
    method: Swav,
    progress: Progress,
    *,
    loss: Tensor,
    norm: Tensor,
    rate: float,
    clock: Clock,
    recipe: Settings,
    recent: deque[dict[str, Any]],
) -> None:
    """Write a line of metrics, a warning when losses stay at ln K, and its end when they no longer do."""
    telemetry = method.telemetry.read()
    seconds, waited = clock.lap()
    passes = plan.passes(progress.step)
    modalities = {
        name: {**values, "passes": passes[name]} for name, values in zip(plan.modalities, telemetry, strict=True)
    }
    steps = (progress.step - 1) % recipe.recipe.log_every + 1
    line = {
        "step": progress.step,
        "seconds": round(run.seconds(), 3),
        "loss": sum(values["loss"] for values in telemetry) / len(telemetry),
        "learning_rate": rate,
        "gradient_norm": float(norm),
        "images_per_second": recipe.recipe.batch_size * steps / seconds,
        "data_wait": waited,
        "skipped": progress.skipped,
        "modalities": modalities,
    }
    run.log(line)
    if run.writes:
        recent.append(line)
        message = collapse_warning(recent, recipe)
        if message and not progress.warned:
            run.log({"step": progress.step, "event": "collapse", "message": message})
        elif progress.warned and not message:
            run.log({"step": progress.step, "event": "recovery", "message": "no loss stays at ln K any longer"})
        progress.warned = bool(message)


def probe_step(
    run: RunFolder,
    archive: Archive,
    encoder: Encoder,
    tasks: Sequence[LabelTask],
    progress: Progress,
    device: str,
    settings: Settings,
) -> None:
    """Probe the labels of the validation split, and keep the encoder of the best mean AUC."""
    results = knn_probe(encoder, archive, tasks, device, leave_out_damaged=settings.recipe.damaged == "replace")
    mean = sum(results.values()) / len(results)
    lines = {
        task.name: {"modality": task.modality, "auc": results[task.name], "images": len(task.query)} for task in tasks
    }
    run.log({"step": progress.step, "probe": lines, "probe_mean": mean})
    if mean > progress.best_probe:
        progress.best_probe = mean
        save_encoder(encoder, run.path / "encoder-best-probe.safetensors")


def state_of(
    network: SwavNetwork, optimizer: torch.optim.Optimizer, method: Swav, progress: Progress
) -> dict[str, Any]:
    """Everything that the next step depends on, as tensors and plain values."""
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "method": method.state_dict(),
        "progress": vars(progress).copy(),
        "generator": torch.get_rng_state(),
    }


def restore(
    run: RunFolder, network: SwavNetwork, optimizer: torch.optim.Optimizer, method: Swav, progress: Progress
) -> None:
    """Go on from the newest checkpoint of the run, if there is one; lines written after it are dropped."""
    path = latest_checkpoint(run.path / "checkpoints")
    if path is None:
        run.continue_after(0)
        return
    state = load_checkpoint(path)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    method.load_state_dict(state["method"])
    for key, value in state["progress"].items():
        setattr(progress, key, value)
    torch.set_rng_state(state["generator"])
    run.continue_after(progress.step)
