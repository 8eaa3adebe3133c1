"""Steps until a level, against reading the curve by eye."""

from __future__ import annotations

import pytest

from scoutview.metrics.convergence import SpeedUp, speed_up, steps_to

REFERENCE = [(10, 0.50), (20, 0.60), (30, 0.79), (40, 0.80), (50, 0.70)]


def test_the_first_step_at_the_level_counts_even_if_the_curve_falls_again() -> None:
    assert steps_to(REFERENCE, 0.79) == 30
    assert steps_to(REFERENCE, 0.80) == 40
    assert steps_to(REFERENCE, 0.81) is None


def test_speed_up_is_the_share_of_steps_saved_to_the_references_level() -> None:
    # 98% of 0.80 is 0.784: the reference is there at step 30.
    assert speed_up([(10, 0.79), (50, 0.2)], REFERENCE) == SpeedUp(10, 30, True)
    assert speed_up(REFERENCE, REFERENCE) == SpeedUp(30, 30, True)
    assert speed_up([(10, 0.1), (60, 0.784)], REFERENCE).saved == pytest.approx(-1.0)
    assert SpeedUp(10, 30, True).saved == pytest.approx(2 / 3)


def test_a_curve_that_never_arrives_is_marked() -> None:
    assert speed_up([(10, 0.99 * 0.784), (50, 0.70)], REFERENCE) == SpeedUp(50, 30, False)
