"""The grid as work: cells that fail, a driver that is killed, workers of a cluster, GPUs in turn, recipes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from study_files import make_folder, result, write

from scoutview import study
from scoutview.errors import RunError, UsageError
from scoutview.study import Study, grid, load_plan, run_grid
from scoutview.study.plan import Cell

ONE = {"tasks": ["ct_rough"], "encoders": {"ours": "ours.safetensors"}, "seeds": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Path:
    return make_folder(tmp_path_factory.mktemp("grid"), small_store)


@pytest.fixture(scope="module")
def content(folder: Path) -> dict:
    """The finished study of one task."""
    return study(write(folder / "one.yaml", **ONE), out=folder / "out")


def times(out: Path) -> dict[str, int]:
    """When each result was written."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in (out / "cells").rglob("result.json")}


def failing(bad: set[Cell], ran: list[Cell]) -> Callable[[Study, Cell], None]:
    """A cell's work, which breaks for some cells and notes what it was called for."""
    real = grid.run_cell

    def run(work: Study, cell: Cell) -> None:
        ran.append(cell)
        if cell in bad:
            raise ValueError("the loss is NaN")
        real(work, cell)

    return run


def test_a_failing_cell_is_told_and_tried_again(
    folder: Path, content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, ran = Cell("ct_rough", "ours", 1.0, 1), []
    with monkeypatch.context() as patched:
        patched.setattr(grid, "run_cell", failing({bad}, ran))
        torn = study(folder / "one.yaml", out=tmp_path / "out")
    assert len(ran) == torn["cells"] == 6
    assert torn["done"] == 5
    [failure] = torn["failures"]
    assert failure["error"] == "ValueError: the loss is NaN"
    assert (failure["encoder"], failure["seed"]) == ("ours", 1)
    assert "in run" in json.loads((bad.folder(tmp_path / "out") / "error.json").read_text())["traceback"]
    assert {len(entry["by_seed"]) for entry in torn["areas"]} == {1}  # the other seed has every encoder
    assert "1 of 6 cells failed" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "the loss is NaN" in page
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["status"] == "1 cells failed"

    before = times(tmp_path / "out")
    again = study(folder / "one.yaml", out=tmp_path / "out")
    assert again["failures"] == []
    assert again["areas"] == content["areas"]
    after = times(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert not (bad.folder(tmp_path / "out") / "error.json").exists()


def test_a_study_whose_cells_all_fail_says_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "run_cell", failing({Cell("ct_rough", "none", 1.0, seed) for seed in range(2)}, []))
    with pytest.raises(RunError, match=r"no row of the study is complete.*the loss is NaN"):
        study(folder / "one.yaml", out=tmp_path / "out")
    assert "the loss is NaN" in (tmp_path / "out" / "report.html").read_text()


def test_a_cell_that_kills_its_process_is_a_failure(folder: Path, tmp_path: Path) -> None:
    plan = load_plan(folder / "one.yaml", tmp_path)
    told = []

    def deadly(items: Sequence[Cell], work: object, died: Callable[[Cell], str], chunk: int) -> Iterator[str]:
        yield from (died(item) for item in items)

    run_grid(plan, tmp_path, deadly, lambda cell, error, *_: told.append((cell, error)))
    assert len(told) == 6
    for cell, error in told:
        assert "killed" in error
        assert json.loads((cell.folder(tmp_path) / "error.json").read_text())["error"] == error


def test_a_killed_grid_leaves_no_worker_and_reruns_nothing(folder: Path, content: dict, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "from pathlib import Path; from scoutview import study\n"
        f"if __name__ == '__main__': study(Path({str(folder / 'one.yaml')!r}), out=Path({str(out)!r}), at_once=2)"
    )
    (tmp_path / "run.py").write_text(code)
    process = subprocess.Popen([sys.executable, tmp_path / "run.py"], stderr=subprocess.DEVNULL)
    while process.poll() is None and len(times(out)) < 2:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # what a worker was writing
    before = times(out)
    assert before
    time.sleep(2.0)
    assert times(out) == before
    again = study(folder / "one.yaml", out=out)
    after = times(out)
    assert {name: after[name] for name in before} == before
    assert again["done"] == again["cells"] == 6
    assert again["labelled"] == content["labelled"]


def test_workers_of_a_cluster_give_the_same_probes(
    folder: Path, content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.chdir(folder)
    again = study(Path("one.yaml"), out=tmp_path / "out", at_once=2, cluster="local")
    assert again["failures"] == []
    for cell in load_plan(folder / "one.yaml", folder).cells():
        mine, other = (result(out, cell)["scores"] for out in (tmp_path / "out", folder / "out"))
        for measure in ("linear", "neighbours"):
            for row, expected in zip(mine[measure], other[measure], strict=True):
                assert row == pytest.approx(expected, abs=1e-3)


def test_worker_processes_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("SpawnProcess-1", "SpawnProcess-2", "SpawnProcess-3", "SpawnProcess-1:4", "MainProcess"):
        monkeypatch.setattr(multiprocessing.current_process(), "_name", name)
        grid._settle()
    assert taken == [1, 2, 0, 1]


TINY = {
    "recipe": "demo",
    "encoder": "resnet18w0.125",
    "steps": 3,
    "batch_size": 8,
    "sizes": [48, 32],
    "input_size": 48,
    "workers": 0,
}


def test_an_encoder_may_be_a_recipe_that_is_pretrained_once(folder: Path, tmp_path: Path) -> None:
    file = write(folder / "recipe.yaml", **{**ONE, "seeds": 1, "encoders": {"fresh": TINY}})
    content = study(file, out=tmp_path / "out")
    encoder = tmp_path / "out" / "pretraining" / "fresh" / "encoder.safetensors"
    assert content["done"] == 3
    assert content["plan"]["encoders"] == {"fresh": TINY}
    written = encoder.stat().st_mtime_ns
    before = times(tmp_path / "out")
    study(file, out=tmp_path / "out")
    assert encoder.stat().st_mtime_ns == written
    assert times(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"fresh": {**TINY, "stepz": 4}}, "stepz"),
        ({"fresh": {**TINY, "out": "elsewhere"}}, "out cannot be set"),
        ({"fresh": {**TINY, "recipe": "none.yaml"}}, "no recipe"),
        ({"fresh": {**TINY, "encoder": "resnet18"}, "ours": "ours.safetensors"}, "compare like with like"),
    ],
)
def test_recipes_that_cannot_be_are_refused_before_there_is_a_folder(
    folder: Path, tmp_path: Path, encoders: dict, message: str
) -> None:
    file = write(folder / "wrong.yaml", **{**ONE, "encoders": encoders})
    with pytest.raises(UsageError, match=message):
        study(file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_are_checked_before_the_pretraining(folder: Path, tmp_path: Path) -> None:
    file = write(folder / "wrong.yaml", **{**ONE, "encoders": {"fresh": TINY}, "tasks": ["no such label"]})
    with pytest.raises(UsageError, match="no such label"):
        study(file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
