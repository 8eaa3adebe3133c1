"""How soon a training arrives (spec section 7): steps until a validation curve reaches a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Curve = Sequence[tuple[int, float]]


def steps_to(curve: Curve, level: float) -> int | None:
    """The first step of (step, value) pairs, in order, whose value is at least `level`; None if there is none."""
    return next((step for step, value in curve if value >= level), None)


@dataclass(frozen=True)
class SpeedUp:
    """Steps of a run and of its reference to one level; a run that never gets there counts its last step.

    That flatters such a run by an unknown amount: say so beside the figure (`reached`).
    """

    steps: int
    reference: int
    reached: bool

    @property
    def saved(self) -> float:
        """1 - ours / reference: 0.5 is half the steps."""
        return 1.0 - self.steps / self.reference


def speed_up(curve: Curve, reference: Curve, share: float = 0.98) -> SpeedUp:
    """Steps to `share` of the best value of `reference`; both curves must be of the same schedule and batch."""
    level = share * max(value for _, value in reference)
    needed = steps_to(reference, level)
    assert needed is not None  # its best value reaches the level
    ours = steps_to(curve, level)
    return SpeedUp(curve[-1][0] if ours is None else ours, needed, ours is not None)


def own_speed_up(curve: Curve, reference: Curve, share: float = 0.98) -> SpeedUp:
    """Steps of each curve to `share` of its own best value, the paper's definition (Fig. 6).

    A flat, poor run is there at once: read it beside `speed_up`.
    """
    own, other = (
        next(step for step, value in each if value >= share * max(best for _, best in each))
        for each in (curve, reference)
    )
    return SpeedUp(own, other, True)
