"""Ending early: signals, a limit of time, and what stages report."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from scoutview.training import Stages, Stop, communication, slowest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_after_the_step_and_the_handler_of_before_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stop(None, 1) as stop:
        stop.ask()
        assert stop.agreed() == ""
        os.kill(os.getpid(), number)
        assert stop.agreed() == ""  # the ranks have asked each other before
        stop.ask()
        assert stop.agreed() == number.name
    assert signal.getsignal(number) is before


def test_a_limit_of_time_stops() -> None:
    with Stop(0.05, 1) as stop:
        stop.ask()
        assert stop.agreed() == ""
        time.sleep(0.06)
        stop.ask()
        assert stop.agreed() == "time limit"


def test_stages_add_up_and_what_was_waited_for_others_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, others = [10.0], [0.0]
    monkeypatch.setattr("scoutview.training.stages.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("scoutview.training.stages.waited", lambda: others[0])
    stages = Stages(torch.device("cpu"))
    for stage, seconds, collective in (
        ("data", 1.0, 0.0),
        ("encoder", 5.0, 0.5),
        ("method", 2.0, 1.0),
        ("rest", 2.0, 0.0),
    ):
        now[0] += seconds
        others[0] += collective
        stages.mark(stage)
    seconds, shares = stages.lap()
    assert seconds == pytest.approx(10.0)
    expected = {"data": 0.1, "views": 0.0, "encoder": 0.45, "method": 0.1, "communication": 0.15, "rest": 0.2}
    assert shares == pytest.approx(expected)
    assert slowest(shares) == "encoder"
    now[0] += 4.0
    stages.mark("views")
    assert stages.lap() == (pytest.approx(4.0), pytest.approx({**dict.fromkeys(expected, 0.0), "views": 1.0}))
    assert stages.totals()["encoder"] == pytest.approx(4.5)


def test_one_rank_waits_for_nobody() -> None:
    block = torch.rand(2, 3, 4)
    assert communication.all_reduce(block) is block
    assert communication.gather_samples(block, [3]) is block
    assert communication.waited() == 0.0
