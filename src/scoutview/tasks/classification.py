"""Fine-tuning a classifier: encoder, one linear layer, one flat loop; the best validation AUC is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoutview.batches import Archive
from scoutview.encoders import Encoder
from scoutview.errors import UsageError
from scoutview.metrics import roc_auc
from scoutview.tasks.inputs import NetworkInputs
from scoutview.tasks.labels import Targets
from scoutview.training import RunFolder, cosine_with_warmup, latest_checkpoint, load_checkpoint, save_checkpoint

EPOCHS = 30


@dataclass(frozen=True)
class FinetuneSettings:
    """How a classifier is fine-tuned.

    Attributes:
        steps: optimizer steps; auto is 30 passes over the labelled images, between 100 and 5000.
        batch_size: images per step.
        seed: of the head, the order and the augmentation.
        learning_rate: of AdamW for the encoder.
        head_learning_rate: of AdamW for the linear layer.
        weight_decay: of AdamW.
        zoom: range of the random scale.
        shift: largest random shift, as a share of the image.
        gain: range of a in the random intensity change a I + b.
        bias: range of b.
    """

    steps: int | Literal["auto"] = "auto"
    batch_size: int = 32
    seed: int = 0
    learning_rate: float = 5e-4
    head_learning_rate: float = 2e-3
    weight_decay: float = 0.01
    zoom: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.06
    gain: tuple[float, float] = (0.9, 1.1)
    bias: tuple[float, float] = (-0.1, 0.1)

    def resolved_steps(self, images: int) -> int:
        """Steps for a number of labelled training images."""
        if isinstance(self.steps, int):
            return self.steps
        return min(max(EPOCHS * images // self.batch_size, 100), 5000)


@dataclass(frozen=True)
class Classifier:
    """An encoder with a linear head: [image, 1, row, column] -> logits [image, class]."""

    encoder: Encoder
    head: nn.Linear
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    exclusive: bool

    def logits(self, inputs: Tensor) -> Tensor:
        """[image, class]."""
        result: Tensor = self.head(self.encoder.network(inputs))
        return result

    def train(self, mode: bool) -> None:
        """Training or evaluation mode of both parts."""
        self.encoder.network.train(mode)
        self.head.train(mode)


def finetune_classification(
    archive: Archive,
    encoder: Encoder,
    labels: Sequence[str],
    train: Targets,
    validation: Targets,
    settings: FinetuneSettings,
    run: RunFolder,
    device: str,
    inputs: NetworkInputs | None = None,
) -> Classifier:
    """Train on `train`, watch the macro AUC on `validation`, return the weights of its best step.

    Goes on from the newest checkpoint of the run. A pure function of its arguments on one device. inputs: of this
    archive at the encoder's size, if the caller has read them already.

    Raises:
        UsageError: if a part has no image.
    """
    for name, part in (("train", train), ("validation", validation)):
        if not part.indices:
            raise UsageError(f"no image with {', '.join(labels)} is in split {name}: label more, or set a split column")
    torch.manual_seed(settings.seed)
    head = nn.Linear(encoder.network.features, len(train.classes))
    nn.init.zeros_(head.bias)
    model = Classifier(encoder, head, tuple(labels), train.classes, train.exclusive)
    encoder.network.to(device)
    encoder.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head.to(device)
    optimizer = torch.optim.AdamW(
        [
            {"params": list(encoder.network.parameters()), "base": settings.learning_rate},
            {"params": list(head.parameters()), "base": settings.head_learning_rate},
        ],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    steps = settings.resolved_steps(len(train.indices))
    every = max(steps // 20, 1)
    inputs = inputs or NetworkInputs(archive, encoder.preprocessing, encoder.image_side)
    state = _start(run, model, optimizer)
    targets = torch.from_numpy(train.values)

    model.train(True)
    for step in range(state["step"], steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine_with_warmup(step, steps, max(steps // 20, 1), group["base"], 0.0)
        chosen, generator = _draw(settings, len(train.indices), step)
        images = augment(inputs.batch([train.indices[place] for place in chosen]).to(device), settings, generator)
        loss = classification_loss(model.logits(images), targets[chosen].to(device), train.exclusive)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        done = step + 1
        if done % every == 0 or done == steps:
            run.log({"step": done, "seconds": round(run.seconds(), 3), "loss": float(loss.detach())})
            auc = mean_auc(predict(model, inputs, validation.indices, device), validation.values)
            model.train(True)
            run.log({"step": done, "seconds": round(run.seconds(), 3), "validation_auc": auc})
            if auc > state["best_auc"] or not state["best"]:
                state |= {"best_auc": auc, "best": _weights(model), "best_step": done}
            state["step"] = done
            checkpoint = {**state, "weights": _weights(model), "optimizer": optimizer.state_dict()}
            save_checkpoint(run.path / "checkpoints", done, checkpoint, keep=1)
    encoder.network.load_state_dict(state["best"]["encoder"])
    head.load_state_dict(state["best"]["head"])
    encoder.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.train(False)
    return model


def classification_loss(logits: Tensor, targets: Tensor, exclusive: bool) -> Tensor:
    """Cross-entropy, or binary cross-entropy over the known entries. targets [image, class], NaN = unknown."""
    if exclusive:
        return F.cross_entropy(logits.float(), targets)
    known = ~torch.isnan(targets)
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


def augment(images: Tensor, settings: FinetuneSettings, generator: np.random.Generator) -> Tensor:
    """Random zoom, shift and linear intensity change of [image, 1, row, column]; what comes in from outside is 0."""
    count = len(images)
    zoom = generator.uniform(*settings.zoom, count)
    shift = generator.uniform(-2 * settings.shift, 2 * settings.shift, (count, 2))
    matrices = np.zeros((count, 2, 3), dtype=np.float32)
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 / zoom
    matrices[:, :, 2] = shift
    grid = F.affine_grid(torch.from_numpy(matrices).to(images.device), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    gain = torch.from_numpy(generator.uniform(*settings.gain, count).astype(np.float32)).to(images.device)
    bias = torch.from_numpy(generator.uniform(*settings.bias, count).astype(np.float32)).to(images.device)
    return moved * gain[:, None, None, None] + bias[:, None, None, None]


@torch.inference_mode()
def predict(
    model: Classifier, inputs: NetworkInputs, indices: Sequence[int], device: str, batch: int = 64
) -> npt.NDArray[np.float64]:
    """Probabilities [image, class]: softmax over exclusive classes, else a sigmoid each."""
    model.train(False)
    scores = []
    for first in range(0, len(indices), batch):
        logits = model.logits(inputs.batch(indices[first : first + batch]).to(device)).double()
        scores.append((logits.softmax(1) if model.exclusive else logits.sigmoid()).cpu().numpy())
    return np.concatenate(scores) if scores else np.zeros((0, len(model.classes)))


def mean_auc(scores: npt.NDArray[np.float64], targets: npt.NDArray[np.float32]) -> float:
    """Mean over classes of the AUC on the images where the class is known; NaN classes are left out."""
    aucs = []
    for column in range(targets.shape[1]):
        known = ~np.isnan(targets[:, column])
        aucs.append(roc_auc(scores[known, column], targets[known, column] > 0.5))
    usable = [auc for auc in aucs if auc == auc]
    return float(np.mean(usable)) if usable else 0.0


def _draw(settings: FinetuneSettings, images: int, step: int) -> tuple[list[int], np.random.Generator]:
    """The places of this step's images, each once per epoch, and the generator of its augmentation."""
    first, last = step * settings.batch_size, (step + 1) * settings.batch_size
    epochs = range(first // images, (last - 1) // images + 1)
    order = np.concatenate([_permutation(settings.seed, images, epoch) for epoch in epochs])
    begin = first - epochs[0] * images
    chosen = [int(place) for place in order[begin : begin + settings.batch_size]]
    return chosen, np.random.Generator(np.random.Philox(key=settings.seed, counter=[0, 1, 0, step]))


def _permutation(seed: int, images: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 2, 0, epoch])).permutation(images)


def _weights(model: Classifier) -> dict[str, Any]:
    def copy(module: nn.Module) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}

    return {"encoder": copy(model.encoder.network), "head": copy(model.head)}


def _start(run: RunFolder, model: Classifier, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    path: Path | None = latest_checkpoint(run.path / "checkpoints")
    if path is None:
        run.continue_after(0)
        return {"step": 0, "best_auc": -1.0, "best": {}, "best_step": 0}
    state = load_checkpoint(path)
    model.encoder.network.load_state_dict(state["weights"]["encoder"])
    model.head.load_state_dict(state["weights"]["head"])
    optimizer.load_state_dict(state["optimizer"])
    run.continue_after(state["step"])
    return {key: state[key] for key in ("step", "best_auc", "best", "best_step")}
