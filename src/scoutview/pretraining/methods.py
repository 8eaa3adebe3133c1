"""The methods by name: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from scoutview.batches import Archive
from scoutview.encoders import Network
from scoutview.errors import UsageError
from scoutview.pretraining.dino import Dino
from scoutview.pretraining.hybrid import Hybrid, HybridNetwork
from scoutview.pretraining.labels import Labels, read_labels
from scoutview.pretraining.method import Method
from scoutview.pretraining.recipe import Recipe
from scoutview.pretraining.settings import Settings
from scoutview.pretraining.simclr import Simclr
from scoutview.pretraining.supervised import Supervised
from scoutview.pretraining.swav import Swav

METHODS: dict[str, type[Method]] = {"swav": Swav, "simclr": Simclr, "dino": Dino, "supervised": Supervised}


def method_of(recipe: Recipe) -> type[Method]:
    """The method of a recipe.

    Raises:
        UsageError: if it cannot do what the recipe asks.
    """
    method = METHODS[recipe.method]
    if recipe.accumulate > 1 and not method.accumulates:
        able = ", ".join(name for name, each in METHODS.items() if each.accumulates)
        raise UsageError(
            f"accumulate {recipe.accumulate}: {recipe.method} needs the whole batch at once, so it "
            f"takes no parts: set accumulate 1, checkpoint_activations to save memory, or a method that does ({able})"
        )
    return method


def labels_of(archive: Archive, recipe: Recipe) -> Labels | None:
    """The labels that a recipe learns from, if it names any.

    Raises:
        UsageError: if the archive has none, or the method cannot do what the recipe asks.
    """
    method_of(recipe)
    return read_labels(archive, recipe.label) if recipe.label else None


def make_network(settings: Settings, encoder: Network, labels: Labels | None = None) -> Any:
    """The network of a recipe, with all that has gradients; with a label also a classifier of it."""
    recipe = settings.recipe
    network = method_of(recipe).network_of(settings, encoder, labels)
    if labels is None or recipe.method == "supervised":
        return network
    return HybridNetwork(network, len(labels.classes), recipe.crops[0])


def make_method(
    settings: Settings,
    network: Any,
    rank: int,
    counts: Sequence[Sequence[int]],
    device: torch.device,
    labels: Labels | None = None,
) -> Method:
    """The method of a recipe; network: that of `make_network`. See `Method`."""
    method = method_of(settings.recipe)
    if labels is None or settings.recipe.method == "supervised":
        return method(settings, network, rank, counts, device, labels)
    return Hybrid(method(settings, network.unlabelled, rank, counts, device), network, labels)
