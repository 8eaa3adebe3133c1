"""What reaches Weights & Biases and MLflow, recorded by modules of their interface; no server is needed."""

from __future__ import annotations

import json
import math
import shutil
import socket
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
    # Neither what is printed nor the command line, which name labels and folders, nor the name of the machine.
    assert begun[0]["settings"] == {"console": "off", "disable_git": True, "host": "", "x_disable_meta": True}


def test_a_run_made_anew_in_the_same_folder_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "run"
    known = loggers._identity(run_of(path))
    assert loggers._identity(run_of(path)) == known
    shutil.rmtree(path)
    assert loggers._identity(run_of(path)) != known


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    runs: dict[str, dict[str, str]] = {}

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            assert name == "scoutview"

        def create_experiment(self, name: str) -> str:
            return "7"

        def search_runs(self, experiments: list[str], words: str, max_results: int) -> list[Any]:
            assert experiments == ["7"]
            found = [run for run, tags in runs.items() if words == f"tags.logged_as = '{tags['logged_as']}'"]
            return [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in found[:max_results]]

        def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
            assert (experiment, run_name) == ("7", "run")
            runs["r"] = tags
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def update_run(self, run: str, status: str) -> None:
            sent.append((run, status))

        def log_param(self, run: str, key: str, value: str) -> None:
            sent.append((run, key, value))

        def set_terminated(self, run: str) -> None:
            sent.append((run, "ended"))

    def log_metrics(figures: dict[str, float], step: int, run_id: str) -> None:
        sent.append((run_id, figures, step))

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client, log_metrics=log_metrics))
    run = run_of(tmp_path / "run")
    for _ in range(2):
        with following("mlflow", run, {"steps": 2, "long": "x" * 900}):
            log_all(run)
    metrics = [("r", figures, step) for figures, step in FIGURES]
    begun = [("r", "steps", "2"), ("r", "long", "x" * 500)]
    assert sent == [*begun, *metrics, ("r", "ended"), ("r", "RUNNING"), *metrics, ("r", "ended")]


ODD = {"step": 3, "probe": {"lesion (left), ü": {"auc": 0.75}}, "loss": float("nan")}
"""A label may have any name, and a loss may fail."""


def test_mlflow_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs scoutview[mlflow]")
    monkeypatch.setattr(loggers, "PATIENCE", 600.0)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(str(tmp_path / "tracked"))
    try:
        run = run_of(tmp_path / "run")
        for line in (*LINES[:2], ODD):  # the second time goes on with the run of the first
            with following("mlflow", run, {"steps": 2, "long": "x" * 9000}):
                run.log(line)
        run.close()
        client = mlflow.MlflowClient()
        (there,) = client.search_runs([client.get_experiment_by_name("scoutview").experiment_id])
        assert (there.info.run_name, there.info.status) == ("run", "FINISHED")
        assert there.data.params == {"steps": "2", "long": "x" * 500}
        kept = {
            name: [(point.step, point.value) for point in client.get_metric_history(there.info.run_id, name)]
            for name in there.data.metrics
        }
    finally:
        mlflow.set_tracking_uri(before)
    assert math.isnan(kept.pop("loss")[0][1])
    assert kept == {
        "seconds": [(1, 0.5)],
        "modalities/ct/loss": [(1, 2.0)],
        "probe/lesion _left__ ü/auc": [(3, 0.75)],
    }
    assert "warning" not in capsys.readouterr().err


def test_wandb_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb", reason="needs scoutview[wandb]")
    monkeypatch.setattr(loggers, "PATIENCE", 600.0)  # on a busy machine the client takes long to begin
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(sys, "argv", ["scoutview", "pretrain", "/archive/of-a-clinic"])
    monkeypatch.setattr(socket, "gethostname", lambda: "host-of-a-clinic")
    run = run_of(tmp_path / "run")
    with following("wandb", run, {"steps": 2, "init": "weights-of-before"}):
        for line in (*LINES, ODD):
            print("printed-for-people")
            run.log(line)
    run.close()
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert file.name == f"run-{(tmp_path / 'run' / 'logged_as').read_text()}.wandb"
    content = file.read_bytes()
    for kept in ("weights-of-before", "modalities/ct/loss", "lesion (left), ü"):
        assert kept.encode() in content
    for private in ("of-a-clinic", "printed-for-people"):
        assert private.encode() not in content
    assert "warning" not in capsys.readouterr().err


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
