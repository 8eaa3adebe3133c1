"""The one flat loop that fine-tunes every task: AdamW, cosine with warm-up, the best validation figure is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scoutview.encoders import stage_of, stages_of
from scoutview.errors import UsageError
from scoutview.memory import keep_freed_memory
from scoutview.training import (
    RunFolder,
    cosine_with_warmup,
    latest_checkpoint,
    load_checkpoint,
    restoring,
    save_checkpoint,
)

EPOCHS = 30
EVALUATIONS = 20
ENCODER = "encoder"


@dataclass(frozen=True)
class FinetuneSettings:
    """How a model is fine-tuned, whatever its task.

    Attributes:
        steps: optimizer steps; auto is 30 passes over the labelled cases, between 100 and 5000.
        batch_size: cases per step.
        seed: of the head, the order and the augmentation.
        learning_rate: of AdamW for the last stage of the encoder.
        layer_decay: factor of the rate from each stage of the encoder to the one before it; 1 is one rate for all.
        frozen: stages of the encoder that stay as they are, counted from its input; all trains the head alone.
        head_learning_rate: of AdamW for what is not the encoder.
        weight_decay: of AdamW.
        class_weights: whether a class counts the more the rarer it is.
        patience: evaluations without a better one (of 20 in all) after which the training ends; 0 is never.
        zoom: range of the random scale.
        shift: largest random shift, as a share of the image.
        gain: range of a in the random intensity change a I + b.
        bias: range of b.
    """

    steps: int | Literal["auto"] = "auto"
    batch_size: int = 32
    seed: int = 0
    learning_rate: float = 5e-4
    layer_decay: float = 1.0
    frozen: int | Literal["all"] = 0
    head_learning_rate: float = 2e-3
    weight_decay: float = 0.01
    class_weights: bool = False
    patience: int = 0
    zoom: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.06
    gain: tuple[float, float] = (0.9, 1.1)
    bias: tuple[float, float] = (-0.1, 0.1)

    def __post_init__(self) -> None:
        problems = [
            (self.steps != "auto" and self.steps < 1, f"steps {self.steps} must be 1 or more"),
            (self.batch_size < 1, f"batch_size {self.batch_size} must be 1 or more"),
            (not 0 < self.layer_decay <= 1, f"layer_decay {self.layer_decay} must lie in (0, 1]"),
            (self.frozen != "all" and self.frozen < 0, f"frozen {self.frozen} must be 0 or more, or all"),
            (self.patience < 0, f"patience {self.patience} must be 0 or more"),
        ]
        for wrong, message in problems:
            if wrong:
                raise UsageError(message)

    def resolved_steps(self, cases: int) -> int:
        """Steps for a number of labelled training cases."""
        if isinstance(self.steps, int):
            return self.steps
        return min(max(EPOCHS * cases // self.batch_size, 100), 5000)


class Task(Protocol):
    """What the loop must know of a task; training cases are numbered from 0."""

    @property
    def cases(self) -> int:
        """How many training cases there are."""

    def modules(self) -> Mapping[str, nn.Module]:
        """The parts that are trained, saved and restored: the encoder as "encoder", if there is one, and others."""

    def loss(self, cases: Sequence[int], generator: np.random.Generator) -> Tensor:
        """The loss of some training cases; the generator is for their augmentation."""

    def validate(self) -> dict[str, float]:
        """Figures on the validation cases, in evaluation mode; the first decides, and more of it is better."""


@dataclass(frozen=True)
class Job:
    """A task that is ready for its training.

    cases: what it learns from, for people ("120 images, 30 for validation"). labels: their names. save: writes the
    trained model into a run folder, its last file last, after the loop. stages: folder below the run -> a job that must
    be finished before. begin: takes up what these left in the run folder, before the loop.
    """

    task: Task
    settings: FinetuneSettings
    cases: str
    labels: tuple[str, ...]
    save: Callable[[Path], None]
    stages: Mapping[str, Job] = field(default_factory=dict)
    begin: Callable[[Path], None] = lambda run: None


def finetune_task(task: Task, settings: FinetuneSettings, run: RunFolder, device: str) -> None:
    """Train a task; its modules end with the weights of the best step, in evaluation mode.

    Goes on from the newest checkpoint of the run. A pure function of its arguments on one device.

    Raises:
        UsageError: if more stages are to be frozen than the encoder has.
    """
    keep_freed_memory()
    modules = task.modules()
    for module in modules.values():
        module.to(device)
        volumes = any(isinstance(part, nn.Conv3d) for part in module.modules())
        last = torch.channels_last_3d if volumes else torch.channels_last
        module.to(memory_format=last)  # type: ignore[call-overload]
    groups = parameter_groups(modules, settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.resolved_steps(task.cases)
    every = max(steps // EVALUATIONS, 1)
    state = _start(run, modules, optimizer)

    _train(modules, settings)
    for step in range(state["step"], steps):
        if state["done"]:
            break
        for group in optimizer.param_groups:
            group["lr"] = cosine_with_warmup(step, steps, max(steps // 20, 1), group["base"], 0.0)
        cases, generator = _draw(settings, task.cases, step)
        loss = task.loss(cases, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        done = step + 1
        if done % every == 0 or done == steps:
            run.log({"step": done, "seconds": round(run.seconds(), 3), "loss": float(loss.detach())})
            for module in modules.values():
                module.train(False)
            figures = task.validate()
            _train(modules, settings)
            named = {f"validation_{name}": value for name, value in figures.items()}
            run.log({"step": done, "seconds": round(run.seconds(), 3), **named})
            watched = next(iter(figures.values()))
            if watched > state["best_value"] or not state["best"]:
                state |= {"best_value": watched, "best": _weights(modules), "best_step": done, "since": 0}
            else:
                state["since"] += 1
            state |= {"step": done, "done": 0 < settings.patience <= state["since"]}
            checkpoint = {**state, "weights": _weights(modules), "optimizer": optimizer.state_dict()}
            save_checkpoint(run.path / "checkpoints", done, checkpoint, keep=1)
    _restore(modules, state["best"])
    for module in modules.values():
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.train(False)


def parameter_groups(modules: Mapping[str, nn.Module], settings: FinetuneSettings) -> list[dict[str, Any]]:
    """AdamW's groups, with `base` rates: one for each stage of the encoder that is trained, one for all else.

    Stage s of S has the rate learning_rate * layer_decay^(S - 1 - s). Parameters of frozen stages get no gradient.
    """
    if ENCODER not in modules:
        every = [parameter for module in modules.values() for parameter in module.parameters()]
        return [{"params": every, "base": settings.head_learning_rate}]
    encoder = modules[ENCODER]
    stages = stages_of(encoder)
    frozen = _frozen(encoder, settings)
    groups: list[dict[str, Any]] = []
    for stage in range(stages):
        parameters = [value for name, value in encoder.named_parameters() if stage_of(encoder, name) == stage]
        for parameter in parameters:
            parameter.requires_grad_(stage >= frozen)
        if stage >= frozen:
            rate = settings.learning_rate * settings.layer_decay ** (stages - 1 - stage)
            groups.append({"params": parameters, "base": rate})
    known = {id(parameter) for parameter in encoder.parameters()}
    others = [p for module in modules.values() for p in module.parameters() if id(p) not in known]
    return [*groups, {"params": others, "base": settings.head_learning_rate}]


def _frozen(encoder: nn.Module, settings: FinetuneSettings) -> int:
    stages = stages_of(encoder)
    if settings.frozen == "all":
        return stages
    if settings.frozen > stages:
        raise UsageError(f"frozen {settings.frozen}: this encoder has {stages} stages; give fewer, or all")
    return settings.frozen


def _train(modules: Mapping[str, nn.Module], settings: FinetuneSettings) -> None:
    """Training mode, but frozen stages keep the statistics of their BatchNorms."""
    for module in modules.values():
        module.train(True)
    if ENCODER not in modules:
        return
    encoder = modules[ENCODER]
    frozen = _frozen(encoder, settings)
    for name, module in encoder.named_modules():
        if not any(module.children()) and stage_of(encoder, name) < frozen:
            module.train(False)


def _draw(settings: FinetuneSettings, cases: int, step: int) -> tuple[list[int], np.random.Generator]:
    """The cases of a step, each once per epoch, and the generator of their augmentation."""
    first, last = step * settings.batch_size, (step + 1) * settings.batch_size
    epochs = range(first // cases, (last - 1) // cases + 1)
    order = np.concatenate([_permutation(settings.seed, cases, epoch) for epoch in epochs])
    begin = first - epochs[0] * cases
    chosen = [int(case) for case in order[begin : begin + settings.batch_size]]
    return chosen, np.random.Generator(np.random.Philox(key=settings.seed, counter=[0, 1, 0, step]))


def _permutation(seed: int, cases: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 2, 0, epoch])).permutation(cases)


def _weights(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {
        name: {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
        for name, module in modules.items()
    }


def _restore(modules: Mapping[str, nn.Module], weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, module in modules.items():
        module.load_state_dict(weights[name])


def _start(run: RunFolder, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    path: Path | None = latest_checkpoint(run.path / "checkpoints")
    if path is None:
        run.continue_after(0)
        return {"step": 0, "best_value": -1.0, "best": {}, "best_step": 0, "since": 0, "done": False}
    state = load_checkpoint(path)
    with restoring(path):
        _restore(modules, state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        run.continue_after(state["step"])
        return {key: state[key] for key in ("step", "best_value", "best", "best_step", "since", "done")}
