"""The methods by name: the one place that knows them all."""

from __future__ import annotations

from scoutview.errors import UsageError
from scoutview.pretraining.method import Method
from scoutview.pretraining.recipe import Recipe
from scoutview.pretraining.swav import Swav

METHODS: dict[str, type[Method]] = {"swav": Swav}


def method_of(recipe: Recipe) -> type[Method]:
    """The method of a recipe.

    Raises:
        UsageError: if there is none of that name, or it cannot do what the recipe asks.
    """
    if recipe.method not in METHODS:
        raise UsageError(f"no method {recipe.method!r}: use {', '.join(METHODS)}")
    method = METHODS[recipe.method]
    if recipe.accumulate > 1 and not method.accumulates:
        able = ", ".join(name for name, each in METHODS.items() if each.accumulates)
        raise UsageError(
            f"accumulate {recipe.accumulate}: {recipe.method} compares the images of a batch with one another, so it "
            f"takes no parts: set accumulate 1, checkpoint_activations to save memory, or a method that does ({able})"
        )
    return method
