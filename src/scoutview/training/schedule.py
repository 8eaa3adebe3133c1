"""Schedules as functions of the step."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, steps: int, warmup: int, base: float, final: float) -> float:
    """Value at `step` of 0, ..., steps - 1: linear from base / warmup to base, then half a cosine from base to final.

    final + (base - final) (1 + cos(pi (step - warmup) / (steps - warmup))) / 2 after the warm-up.
    """
    if step < warmup:
        return base * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return final + 0.5 * (base - final) * (1.0 + math.cos(math.pi * min(progress, 1.0)))
