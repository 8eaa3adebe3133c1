"""A recipe whose every `auto` has become a value, once, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from scoutview.batches import modality_shares
from scoutview.encoders import InputSize
from scoutview.pretraining.recipe import Recipe
from scoutview.training import resolve_compile, resolve_precision, resolve_workers
from scoutview.training.devices import Precision
from scoutview.views.parameters import in_plane

QUEUE_RATIO = 4096 / 3000
"""(batch + queue) / prototypes of the published recipes."""
IMAGES_PER_PROTOTYPE = 32
MOST_PROTOTYPES = 3000


@dataclass(frozen=True)
class Settings:
    """A recipe whose every `auto` has become a value, with the reasons.

    shares (of the batch), prototypes and queue are per modality, or of all together as the one entry "xray+ct".
    """

    recipe: Recipe
    shares: dict[str, int]
    prototypes: dict[str, int]
    queue: dict[str, int]
    projector_hidden: int
    input_size: InputSize
    workers: int
    precision: Precision
    compile: bool
    probe_every: int
    checkpoint_every: int
    reasons: dict[str, str]

    def config(self) -> dict[str, Any]:
        """The flat mapping for config.yaml."""
        values = asdict(self.recipe)
        for field in fields(self):
            if field.name in values:
                values[field.name] = getattr(self, field.name)
        return values


def resolve(recipe: Recipe, images: Mapping[str, int], ranks_here: int = 1) -> Settings:
    """Turn every `auto` into a value. images: number of images per modality."""
    reasons: dict[str, str] = {}
    shares = modality_shares(images, recipe.batch_size, recipe.proportional)
    if recipe.shared_prototypes or recipe.method == "dino":
        images = {"+".join(images): sum(images.values())}
        shares = {name: sum(shares.values()) for name in images}
    prototypes = {name: _prototypes(recipe, count) for name, count in images.items()}
    if recipe.prototypes == "auto":
        counts = ", ".join(f"{name} {count} images -> {prototypes[name]}" for name, count in images.items())
        reasons["prototypes"] = f"largest power of two up to images / {IMAGES_PER_PROTOTYPE}: {counts}"
    whole = ", ".join(str(share) for share in dict.fromkeys(shares.values()))
    if recipe.queue == "auto":
        queue = {name: _queue(shares[name], count) for name, count in prototypes.items()}
        reasons["queue"] = (
            f"(share of the batch + queue) / prototypes = {QUEUE_RATIO:.3f} as published, in whole shares of {whole}"
        )
    else:
        queue = {name: recipe.queue // shares[name] * shares[name] for name in prototypes}
        if set(queue.values()) != {recipe.queue}:
            reasons["queue"] = f"{recipe.queue} rounded down to whole shares of {whole}"
    if recipe.method in ("simclr", "supervised"):
        reasons = {}  # they have neither
    elif recipe.method == "dino":
        queue = dict.fromkeys(queue, 0)
        reasons["queue"] = "dino has none"
    hidden = recipe.projector_hidden
    if hidden == "auto":
        hidden = 8192 if "w2" in recipe.encoder or "w4" in recipe.encoder else 2048
        reasons["projector_hidden"] = "as SwAV: 8192 for widened networks, else 2048"
    size, reason = resolve_input_size(recipe)
    reasons |= {"input_size": reason} if reason else {}
    workers, reason = resolve_workers(recipe.workers, ranks_here)
    reasons |= {"workers": reason} if reason else {}
    precision, reason = resolve_precision(recipe.precision)
    reasons |= {"precision": reason} if reason else {}
    compiled, reason = resolve_compile(recipe.compile)
    reasons |= {"compile": reason} if reason else {}
    if recipe.probe_every == "auto":
        reasons["probe_every"] = "ten probes a run, at most one in 20 steps"
    if recipe.checkpoint_every == "auto":
        reasons["checkpoint_every"] = "twenty a run, between every 20th and every 1000th step"
    return Settings(
        recipe=recipe,
        shares=shares,
        prototypes=prototypes,
        queue=queue,
        projector_hidden=hidden,
        input_size=size,
        workers=workers,
        precision=precision,
        compile=compiled,
        probe_every=max(recipe.steps // 10, 20) if recipe.probe_every == "auto" else recipe.probe_every,
        checkpoint_every=(
            min(max(recipe.steps // 20, 20), 1000) if recipe.checkpoint_every == "auto" else recipe.checkpoint_every
        ),
        reasons=reasons,
    )


def resolve_input_size(recipe: Recipe) -> tuple[InputSize, str]:
    """The input size of the finished encoder, and why it is that where the recipe says auto."""
    if recipe.input_size != "auto":
        return recipe.input_size, ""
    if recipe.spatial_dims == 3:
        slices, rows, columns = np.array(recipe.sizes).max(0).tolist()
        return (slices, rows, columns), "that of the largest crop"
    side = -(-max(max(in_plane(kind)) for kind in recipe.sizes) * 8 // 5 // 16) * 16
    return side, "1.6 times the largest crop, in steps of 16: what was seen in crops, seen whole"


def _prototypes(recipe: Recipe, images: int) -> int:
    if recipe.prototypes != "auto":
        return recipe.prototypes
    power = 1 << max((images // IMAGES_PER_PROTOTYPE).bit_length() - 1, 1)
    return min(MOST_PROTOTYPES, power)


def _queue(share: int, prototypes: int) -> int:
    return max(int(QUEUE_RATIO * prototypes - share) // share * share, 0)
