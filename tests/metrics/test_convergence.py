"""Steps until a level, against reading the curve by eye."""

from __future__ import annotations

import pytest

from scoutview.metrics.convergence import SpeedUp, own_speed_up, speed_up, steps_to

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


def test_to_its_own_best_a_flat_poor_run_is_there_at_once() -> None:
    assert own_speed_up([(10, 0.3), (20, 0.3), (50, 0.3)], REFERENCE) == SpeedUp(10, 30, True)
    # 98% of 0.9 is 0.882: the first step at that level is 40, though the reference's level is reached at 20.
    better = [(10, 0.5), (20, 0.85), (40, 0.89), (50, 0.9)]
    assert own_speed_up(better, REFERENCE) == SpeedUp(40, 30, True)
    assert speed_up(better, REFERENCE) == SpeedUp(20, 30, True)
