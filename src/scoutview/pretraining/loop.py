"""The training loop, top to bottom: data, views, forward, backward, check, step, telemetry, probe, checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from scoutview.batches import Archive, BatchPlan, TrainingBatch, view_loader
from scoutview.encoders import Encoder, checkpoint_blocks, make_encoder, save_encoder
from scoutview.errors import RunError, UsageError
from scoutview.memory import keep_freed_memory
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining.collapse import LINES
from scoutview.pretraining.damage import DamageCount
from scoutview.pretraining.data import TrainingData
from scoutview.pretraining.method import Method
from scoutview.pretraining.methods import labels_of, make_method, make_network
from scoutview.pretraining.profile import Profile
from scoutview.pretraining.settings import Settings
from scoutview.pretraining.steps import optimizer_of, step_in_parts, update, whole_step
from scoutview.training import (
    LabelTask,
    RunFolder,
    Stages,
    Stop,
    convert_batchnorm,
    cosine_with_warmup,
    knn_probe,
    latest_checkpoint,
    load_checkpoint,
    probe_tasks,
    restoring,
    save_checkpoint,
    slowest,
    watch_gradients,
)
from scoutview.training.run_folder import read_metrics
from scoutview.views import draw_photo, render_views

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


@dataclass(frozen=True)
class Conduct:
    """How a run is carried out, which changes nothing of its result.

    seconds: after so many a checkpoint is written and the run ends, to be continued. profile: record some steps.
    """

    seconds: float | None = None
    profile: bool = False


def run_pretraining(
    data: TrainingData,
    settings: Settings,
    run: RunFolder,
    fabric: Fabric,
    provenance: dict[str, Any],
    initial: Encoder | None = None,
    conduct: Conduct | None = None,
) -> str:
    """Train until `steps`, from the run's newest checkpoint if it has one, and write the encoder file.

    Args:
        data: the images or volumes.
        settings: a resolved recipe.
        run: where metrics, checkpoints and encoder go.
        fabric: device, precision and ranks.
        provenance: kept in the encoder file.
        initial: weights to start from instead of random ones.
        conduct: limits and records of this part of the run.

    Returns:
        "" when the run is finished, else why it stopped early, behind a checkpoint.

    Raises:
        RunError: if the loss stays non-finite, or a stored image is damaged (more than a few, if they are replaced).
    """
    conduct = conduct or Conduct()
    recipe = settings.recipe
    device = fabric.device
    keep_freed_memory()
    preprocessing = initial.preprocessing if initial else Preprocessing()
    archive = data.archive
    labels = labels_of(archive, recipe)
    plan = BatchPlan.make(
        data.selections,
        recipe.batch_size,
        recipe.seed,
        fabric.world_size,
        recipe.damaged == "replace",
        recipe.proportional,
    )
    shares = [share // fabric.world_size for share in plan.shares]
    if any(share % recipe.accumulate for share in shares):
        fitting = [str(number) for number in range(1, min(shares) + 1) if not any(share % number for share in shares)]
        raise UsageError(
            f"accumulate {recipe.accumulate} cannot part the {', '.join(map(str, sorted(set(shares))))} images that a "
            f"rank has of each modality: use one of {', '.join(fitting)}"
        )

    torch.manual_seed(recipe.seed)
    encoder = initial.network if initial else make_encoder(recipe.encoder)
    if recipe.checkpoint_activations:
        checkpoint_blocks(encoder)
    network = make_network(settings, encoder, labels)
    if fabric.world_size > 1:
        convert_batchnorm(network, device.type)
    network.to(device)
    last = torch.channels_last if encoder.spatial_dims == 2 else torch.channels_last_3d
    network.to(memory_format=last)
    if settings.compile:
        network.compile_encoder()
    optimizer = optimizer_of(network, recipe, recipe.learning_rate)
    counts = [shares] * fabric.world_size
    method = make_method(settings, network, fabric.global_rank, counts, device, labels)
    progress = Progress()
    restore(run, network, optimizer, method, progress)
    skips = torch.tensor([progress.skipped, progress.skipped_in_a_row], device=device)
    model, wrapped = fabric.setup(network, optimizer)
    stages = Stages(device)
    if fabric.world_size > 1:
        watch_gradients(model._forward_module, stages)

    if fabric.global_rank > 0:
        fabric.barrier()
    dataset = data.dataset(preprocessing, run.path)  # rank 0 writes what the others read
    if fabric.global_rank == 0:
        fabric.barrier()
    loader = view_loader(
        dataset,
        plan,
        progress.step,
        recipe.steps,
        rank=fabric.global_rank,
        ranks=fabric.world_size,
        workers=settings.workers,
    )
    writes = fabric.global_rank == 0
    probed = settings.probe_every and encoder.spatial_dims == 2  # labels are probed on images
    tasks = probe_tasks(archive, PROBE_IMAGES) if probed and writes else []
    sizes = recipe.view_settings().view_sizes()
    finished = Encoder(recipe.encoder, method.encoder, preprocessing, settings.input_size, provenance)
    damage = DamageCount(fabric.global_rank)
    recent = deque((line for line in read_metrics(run.path) if "modalities" in line), maxlen=LINES)
    profile = Profile(run.path / "profile", stages) if conduct.profile and writes else None
    reason = ""

    network.train()
    with Stop(conduct.seconds, fabric.world_size) as stop:
        stages.mark("rest")
        while progress.step < recipe.steps and not reason:
            step = progress.step
            stop.ask()
            batch: TrainingBatch = next(loader)
            stages.mark("data")
            damage.add(batch, run)
            rate = cosine_with_warmup(
                step, recipe.steps, recipe.warmup, recipe.learning_rate, recipe.final_learning_rate
            )
            for group in optimizer.param_groups:
                group["lr"] = rate

            photo = (
                draw_photo(batch.position.tolist(), len(sizes), seed=recipe.seed, step=step) if recipe.photo else None
            )
            views = render_views(batch.views.to(device), sizes, photo)
            stages.mark("views")
            wrapped.zero_grad(set_to_none=True)
            forward = whole_step if recipe.accumulate == 1 else step_in_parts
            loss = forward(fabric, model, method, views, step, stages, batch.index)
            norm, good = update(network, wrapped, method, loss, step)
            skips = torch.where(good > 0, skips * skips.new_tensor([1, 0]), skips + 1)
            progress.step = step = step + 1
            stages.mark("method")

            logged = step % recipe.log_every == 0 or step == recipe.steps
            saved = step % settings.checkpoint_every == 0 or step == recipe.steps
            reason = stop.agreed()
            if logged or saved or reason or device.type == "cpu":  # a GPU is not made to wait in every step
                progress.skipped, progress.skipped_in_a_row = skips.tolist()
                if progress.skipped_in_a_row >= recipe.skip_limit:
                    raise diverged(run, network, batch, float(loss), float(norm))
            if logged:
                log_step(run, plan, method, progress, loss, norm, rate, stages, settings, recent)
            if tasks and (step % settings.probe_every == 0 or step == recipe.steps):
                probe_step(run, archive, finished, tasks, progress, device.type, settings)
                network.train()
            if saved or reason:
                if writes:
                    state = state_of(network, optimizer, method, progress)
                    save_checkpoint(run.path / "checkpoints", step, state, recipe.keep)
                fabric.barrier()
            stages.mark("rest")
            if profile is not None and profile.step():
                profile = None

    if progress.step < recipe.steps:
        return reason
    if writes:
        save_encoder(finished, run.path / "encoder.safetensors")
    fabric.barrier()
    return ""


def diverged(run: RunFolder, network: torch.nn.Module, batch: TrainingBatch, loss: float, norm: float) -> RunError:
    """Save what is needed to replay the step, and say so."""
    path = run.path / "replay.pt"
    if run.writes:
        torch.save({"step": batch.step, "index": batch.index, "network": network.state_dict()}, path)
    return RunError(
        f"step {batch.step}: loss {loss} and gradient norm {norm} are no finite numbers, for too many steps in a row: "
        f"lower learning_rate, or set precision fp32; {path} holds what repeats the step"
    )


def log_step(
    run: RunFolder,
    plan: BatchPlan,
    method: Method,
    progress: Progress,
    loss: Tensor,
    norm: Tensor,
    rate: float,
    stages: Stages,
    settings: Settings,
    recent: deque[dict[str, Any]],
) -> None:
    """Write a line of metrics, a warning when nothing is learnt, and its end when something is."""
    telemetry = method.lines()
    seconds, shares = stages.lap()
    passes = plan.passes(progress.step)
    modalities = {
        name: {**values, "passes": passes[name]} for name, values in zip(plan.modalities, telemetry, strict=True)
    }
    recipe = settings.recipe
    steps = (progress.step - 1) % recipe.log_every + 1
    line = {
        "step": progress.step,
        "seconds": round(run.seconds(), 3),
        "loss": sum(values["loss"] for values in telemetry) / len(telemetry),
        "learning_rate": rate,
        "gradient_norm": float(norm),
        "images_per_second": recipe.batch_size * steps / seconds,
        "time": shares,
        "slowest": slowest(shares),
        "skipped": progress.skipped,
        "modalities": modalities,
    }
    run.log(line)
    if run.writes:
        recent.append(line)
        message = method.warning(recent)
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
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, method: Method, progress: Progress
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
    run: RunFolder, network: torch.nn.Module, optimizer: torch.optim.Optimizer, method: Method, progress: Progress
) -> None:
    """Go on from the newest checkpoint of the run, if there is one; lines written after it are dropped."""
    path = latest_checkpoint(run.path / "checkpoints")
    if path is None:
        run.continue_after(0)
        return
    state = load_checkpoint(path)
    with restoring(path):
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        method.load_state_dict(state["method"])
        known = {field.name for field in fields(progress)}
        for key in known & state["progress"].keys():
            setattr(progress, key, state["progress"][key])
        torch.set_rng_state(state["generator"])
    run.continue_after(progress.step)
