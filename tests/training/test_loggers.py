"""What reaches Weights & Biases and MLflow, recorded by modules of their interface; no server is needed."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scoutview.errors import UsageError
from scoutview.training import RunFolder, following, loggers
from scoutview.training.run_folder import read_metrics

LINES = [
    {"step": 1, "seconds": 0.5, "modalities": {"ct": {"loss": 2.0}}, "slowest": "data"},
    {"step": 1, "event": "note", "message": "no number"},
    {"step": 2, "seconds": 1.0, "modalities": {"ct": {"loss": 1.5}}},
]
FIGURES = [({"seconds": 0.5, "modalities/ct/loss": 2.0}, 1), ({"seconds": 1.0, "modalities/ct/loss": 1.5}, 2)]


def run_of(path: Path) -> RunFolder:
    run = RunFolder(path)
    run.prepare({"steps": 2}, {})
    return run


def log_all(run: RunFolder) -> None:
    for line in LINES:
        run.log(line)
    run.close()


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[dict[str, Any]] = []
    sent: list[Any] = []

    def init(**words: Any) -> Any:
        begun.append(words)
        return SimpleNamespace(
            log=lambda figures, step: sent.append((figures, step)), finish=lambda: sent.append("finished")
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    run = run_of(tmp_path / "run")
    for _ in range(2):
        with following("wandb", run, {"steps": 2}):
            log_all(run)
    assert sent == [*FIGURES, "finished"] * 2
    assert begun[0] == begun[1]  # the same id
    assert (begun[0]["name"], begun[0]["config"], begun[0]["resume"]) == ("run", {"steps": 2}, "allow")
    assert run.listeners == []


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            assert name == "scoutview"

        def create_experiment(self, name: str) -> str:
            return "7"

        def create_run(self, experiment: str, run_name: str) -> Any:
            assert (experiment, run_name) == ("7", "run")
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def log_param(self, run: str, key: str, value: str) -> None:
            sent.append((run, key, value))

        def log_metric(self, run: str, key: str, value: float, step: int) -> None:
            sent.append((run, key, value, step))

        def set_terminated(self, run: str) -> None:
            sent.append((run, "ended"))

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    run = run_of(tmp_path / "run")
    with following("mlflow", run, {"steps": 2, "long": "x" * 900}):
        log_all(run)
    metrics = [("r", key, value, step) for figures, step in FIGURES for key, value in figures.items()]
    assert sent == [("r", "steps", "2"), ("r", "long", "x" * 500), *metrics, ("r", "ended")]


@pytest.mark.parametrize("fails_in", ["init", "log", "finish"])
def test_a_failing_logger_is_a_warning(
    fails_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    def fine(*_: Any, **__: Any) -> None:
        return None

    there = SimpleNamespace(log=fine, finish=fine)
    setattr(there, fails_in, fail)
    init = fail if fails_in == "init" else lambda **_: there
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    run = run_of(tmp_path / "run")
    with following("wandb", run, {}):
        log_all(run)
    assert [line["step"] for line in read_metrics(run.path)] == [1, 1, 2]
    said = capsys.readouterr().err
    assert said.count("warning: wandb: ConnectionError: no network; the training goes on") == 1


def test_a_server_that_hangs_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = threading.Event()
    there = SimpleNamespace(log=lambda *_, **__: gate.wait(60), finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: there))
    monkeypatch.setattr(loggers, "PATIENCE", 0.05)
    monkeypatch.setattr(loggers, "WAITING", 1)
    run = run_of(tmp_path / "run")
    try:
        with following("wandb", run, {}):
            log_all(run)
    finally:
        gate.set()
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == len(LINES)
    assert json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 2
    assert "not all was sent" in capsys.readouterr().err


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    run = run_of(tmp_path / "run")
    with pytest.raises(UsageError, match=r"pip install 'scoutview\[mlflow\]'"), following("mlflow", run, {}):
        pass


def test_other_ranks_send_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with following("wandb", RunFolder(tmp_path, writes=False), {}):
        pass
