"""How soon a training arrives (spec section 7): steps until a validation curve reaches a level."""

from __future__ import annotations

from collections.abc import Sequence

Curve = Sequence[tuple[int, float]]


def steps_to(curve: Curve, level: float) -> int | None:
    """The first step of (step, value) pairs, in order, whose value is at least `level`; None if there is none."""
    return next((step for step, value in curve if value >= level), None)


def speed_up(curve: Curve, reference: Curve, share: float = 0.98) -> tuple[float, bool]:
    """(1 - ours / reference in steps to `share` of the best value of `reference`, whether `curve` got there).

    0.5 is half the steps. A curve that never gets there is counted with its last step, which flatters it by an
    unknown amount: say so beside the figure. Both curves must be of the same schedule and batch to be compared.
    """
    level = share * max(value for _, value in reference)
    needed = steps_to(reference, level)
    assert needed is not None  # its best value reaches the level
    ours = steps_to(curve, level)
    return 1.0 - (curve[-1][0] if ours is None else ours) / needed, ours is not None
