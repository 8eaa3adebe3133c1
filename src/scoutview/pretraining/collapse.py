"""Noticing collapse: a loss that stays at ln K has learnt nothing, and the likely causes can be named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scoutview.pretraining.settings import Settings

WITHIN = 0.01
LINES = 10


def collapse_warning(lines: Iterable[dict[str, Any]], settings: Settings) -> str | None:
    """A message if a modality's loss stayed within 1% of ln K over the last ten log lines, else None.

    The warm-up, and a tenth of the run, are given as time to leave ln K.

    lines: of metrics.jsonl, those with "modalities".
    """
    recipe = settings.recipe
    recent = [line for line in lines if "modalities" in line][-LINES:]
    grace = max(recipe.warmup * 2, recipe.steps // 10, LINES * recipe.log_every)
    if len(recent) < LINES or recent[0]["step"] < grace:
        return None
    stuck = [name for name in recent[-1]["modalities"] if all(_at_ln_k(line["modalities"][name]) for line in recent)]
    if not stuck:
        return None
    causes = [cause for name in stuck for cause in _causes(name, recent[-1]["modalities"][name], settings)]
    unique = list(dict.fromkeys(causes)) or ["the learning rate does not fit: try half and twice its value"]
    return (
        f"collapsed: the loss of {', '.join(stuck)} stayed within {WITHIN:.0%} of ln K for {LINES} log lines; "
        f"likely causes: {'; '.join(unique)}"
    )


def _at_ln_k(values: dict[str, Any]) -> bool:
    """A loss that was not finite stands as null in metrics.jsonl."""
    return values["loss"] is not None and abs(values["loss"] / values["ln_k"] - 1) < WITHIN


def _causes(name: str, now: dict[str, float], settings: Settings) -> list[str]:
    recipe = settings.recipe
    group = name if name in settings.prototypes else next(iter(settings.prototypes))  # of all modalities
    prototypes, queue = settings.prototypes[group], settings.queue[group]
    share = settings.shares[group]
    causes = []
    if (share + queue) / prototypes < 1:
        causes.append(
            f"{share} samples + {queue} in the queue for {prototypes} prototypes of {name} is a ratio of "
            f"{(share + queue) / prototypes:.2f}, below 1: fewer prototypes or a larger batch"
        )
    if recipe.projection >= 2 * prototypes:
        causes.append(
            f"{prototypes} prototypes of {name} do not span a projection of {recipe.projection} dimensions, so its "
            f"features can turn away from all of them: set projection to about {max(prototypes // 2, 2)}"
        )
    if recipe.epsilon > 0.04:
        causes.append(f"epsilon {recipe.epsilon} is above 0.04: codes become flat; 0.03 is known to work")
    if now["code_entropy"] > 0.9 * now["ln_k"]:
        causes.append(
            f"the codes of {name} are flat (entropy {now['code_entropy']:.2f} of at most {now['ln_k']:.2f}): "
            "a smaller epsilon, or a longer warm-up"
        )
    if now["feature_std"] < 0.2 * recipe.projection**-0.5:
        causes.append(
            f"the features of {name} have shrunk to a point (sd {now['feature_std']:.4f}, spread out it would be "
            f"{recipe.projection**-0.5:.3f}): a lower learning rate, a longer warm-up"
        )
    if not recipe.freeze_prototypes:
        causes.append("the prototypes were never frozen: freeze them for the first hundreds of steps")
    return causes
