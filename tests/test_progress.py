"""How far long work is: every item once, a line per tenth, and the time left by the rule of three."""

from __future__ import annotations

import pytest

from scoutview.progress import counted, left


@pytest.mark.parametrize("count", [2, 3, 10, 57, 1000])
def test_a_line_per_tenth(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr("scoutview.progress.time.monotonic", lambda: float(next(clock)))
    lines: list[str] = []
    assert list(counted(range(count), "images", lines.append)) == list(range(count))
    assert len(lines) == min(count, 10)
    shown = [int(line.split()[0]) for line in lines]
    assert shown == sorted(set(shown))
    assert lines[-1] == f"{count} of {count} images"
    assert all(" min left" in line for line in lines[:-1])


def test_a_single_item_and_none_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted(["a"], "images")) == ["a"]
    assert list(counted([], "images")) == []
    assert capsys.readouterr().err == ""


def test_time_left() -> None:
    assert left(60.0, 1, 4) == ", 3.0 min left"
    assert left(60.0, 4, 4) == left(1.0, 0, 4) == ""
