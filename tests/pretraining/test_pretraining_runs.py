"""Whole runs: resumed after kill -9 bit by bit, on two ranks, started from weights, and refused when they cannot be."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from samples import make_store

from scoutview import merge, pretrain
from scoutview.encoders import load_encoder
from scoutview.errors import RunError, UsageError
from scoutview.store import Annotation, Store, add_annotations
from scoutview.training import latest_checkpoint
from scoutview.training.run_folder import read_config, read_metrics
from scoutview.training.stages import STAGES

SMALL = {
    "encoder": "resnet18w0.25",
    "steps": 18,
    "batch_size": 16,
    "workers": 0,
    "crops": (2, 1),
    "sizes": (40, 32),
    "visible": ((0.5, 1.0), (0.3, 0.6)),
    "prototypes": 4,
    "queue": 8,
    "queue_start": 2,
    "freeze_prototypes": 4,
    "projection": 16,
    "projector_hidden": 32,
    "warmup": 2,
    "input_size": 64,
    "log_every": 3,
    "probe_every": 6,
    "checkpoint_every": 4,
}
TIMES = {"seconds", "images_per_second", "time", "slowest"}


def options(settings: dict) -> list[str]:
    """The settings as words of the command line."""
    words = []
    for key, value in settings.items():
        words += [f"--{key}", json.dumps(value) if isinstance(value, tuple) else str(value)]
    return words


def command(store: Path, out: Path, settings: dict) -> list[str]:
    return [sys.executable, "-m", "scoutview", "pretrain", str(store), "--out", str(out), *options(settings)]


def learnt(run: Path) -> tuple[dict, list[dict]]:
    """What a run ends with: weights, and its lines without the times."""
    lines = [{key: value for key, value in line.items() if key not in TIMES} for line in read_metrics(run)]
    return load_encoder(run).network.state_dict(), lines


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def undisturbed(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the others are compared with, by the command line, in a process of its own."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(command(small_store, out, SMALL), check=True, capture_output=True, timeout=300)
    return out


def test_a_run_leaves_what_the_contract_names(undisturbed: Path) -> None:
    names = {path.name for path in undisturbed.iterdir()}
    assert {
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "encoder.safetensors",
        "report.html",
        "manifest.json",
    } <= names
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["stores"][0]["images"] == dict.fromkeys(("xray", "ct", "mr", "us"), 20)  # 24 less the test split
    assert len(list((undisturbed / "views").glob("*.png"))) == 4
    assert any(name.startswith("events.out.tfevents") for name in names)


def test_killed_twice_and_continued_it_is_the_same_bit_by_bit(
    undisturbed: Path, small_store: Path, tmp_path: Path
) -> None:
    """Mid-epoch (five steps are an epoch here), with the queue in use and between two checkpoints."""
    out = tmp_path / "run"
    for stop_at in (3, 9):
        process = subprocess.Popen(
            command(small_store, out, SMALL), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            lines = read_metrics(out) if (out / "metrics.jsonl").exists() else []
            if lines and lines[-1]["step"] >= stop_at:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
    assert not (out / "encoder.safetensors").exists()
    subprocess.run(command(small_store, out, SMALL), check=True, capture_output=True, timeout=300)
    weights, lines = learnt(out)
    expected_weights, expected_lines = learnt(undisturbed)
    assert lines == expected_lines
    assert same(weights, expected_weights)


def test_the_number_of_loader_processes_changes_nothing(undisturbed: Path, small_store: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "workers": 2}
    subprocess.run(command(small_store, tmp_path / "run", settings), check=True, capture_output=True, timeout=300)
    assert same(learnt(tmp_path / "run")[0], learnt(undisturbed)[0])


def test_two_ranks_train_what_one_does(small_store: Path, tmp_path: Path) -> None:
    """Steps 1 and 2 of the whole command; that gradients are equal is shown in float64 in test_two_ranks."""
    settings = {**SMALL, "steps": 2, "log_every": 1, "probe_every": 0, "precision": "fp32"}
    pretrain([small_store], out=tmp_path / "one", **settings)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = command(small_store, tmp_path / "two", settings)[1:]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launch, *words], check=True, capture_output=True, timeout=300, env=environment)
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in two] == [1, 2]
    for modality, values in one[0]["modalities"].items():
        assert two[0]["modalities"][modality]["loss"] == pytest.approx(values["loss"], abs=1e-4)
        assert two[0]["modalities"][modality]["prototypes_used"] == values["prototypes_used"]
    assert two[0]["gradient_norm"] == pytest.approx(one[0]["gradient_norm"], rel=1e-3)
    assert two[1]["loss"] == pytest.approx(one[1]["loss"], abs=1e-2)  # fp32 rounding has passed through a step
    assert (tmp_path / "two" / "report.html").exists()


def test_running_again_does_nothing_and_other_settings_are_refused(undisturbed: Path, small_store: Path) -> None:
    before = (undisturbed / "encoder.safetensors").stat().st_mtime_ns
    assert pretrain([small_store], out=undisturbed, **SMALL) == undisturbed
    assert (undisturbed / "encoder.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"run with other settings \(seed: 0 -> 1\)"):
        pretrain([small_store], out=undisturbed, **{**SMALL, "seed": 1})
    with pytest.raises(UsageError, match=r"where: None -> slice_spacing is null"):
        pretrain([small_store], out=undisturbed, **SMALL, where="slice_spacing is null")


def test_a_run_on_stores_that_changed_is_refused_unless_told(
    undisturbed: Path, small_store: Path, tmp_path: Path
) -> None:
    """A label may change nothing, a split or another image changes the order of batches."""
    store = Store.open(shutil.copytree(small_store, tmp_path / "store"))
    out = shutil.copytree(undisturbed, tmp_path / "run")
    first = read_config(out)["archive"]
    assert first["stores"] == [store.snapshot()]
    assert json.loads((out / "manifest.json").read_text())["stores"][0]["snapshot"] == store.snapshot()
    (tmp_path / "store").rename(tmp_path / "moved")
    store = Store.open(tmp_path / "moved")
    add_annotations(store, [Annotation("ct-0003", "label", "new", "1")])
    assert pretrain([store.path], out=out, **SMALL) == out  # finished
    add_annotations(store, [Annotation("ct-0003", "split", "", "test"), Annotation("ct-0019", "split", "", "train")])
    with pytest.raises(UsageError, match=r"on other images \(stores .*, selection .*, now .*--changed_store accept"):
        pretrain([store.path], out=out, **SMALL)
    assert read_config(out)["archive"] == first
    pretrain([store.path], out=out, changed_store="accept", **SMALL)
    assert read_config(out)["archive"] == first  # it was finished, and has used no other

    (out / "encoder.safetensors").unlink()  # as if it was killed before its last steps
    (out / "checkpoints" / f"step-{SMALL['steps']:09d}.pt").unlink()
    make_store(tmp_path / "more", images=26)
    merge([tmp_path / "more"], out=store.path)
    with pytest.raises(UsageError, match="other images"):
        pretrain([store.path], out=out, **SMALL)
    config = read_config(pretrain([store.path], out=out, changed_store="accept", **SMALL))
    assert config["earlier_archives"] == [first]
    assert config["archive"]["stores"] == [store.snapshot()] != first["stores"]
    assert load_encoder(out).provenance["earlier_archives"] == [first]
    assert pretrain([store.path], out=out, **SMALL) == out
    assert read_config(out) == config


def test_training_can_start_from_an_encoder_of_the_same_architecture_only(
    undisturbed: Path, small_store: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "steps": 1, "learning_rate": 1e-9, "final_learning_rate": 1e-9, "warmup": 0, "probe_every": 0}
    run = pretrain([small_store], out=tmp_path / "more", init=undisturbed, **settings)
    start, end = load_encoder(undisturbed).network.state_dict(), load_encoder(run).network.state_dict()
    for name in ("conv1.weight", "layer4.1.conv2.weight"):
        torch.testing.assert_close(start[name], end[name], atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match=r"is a resnet18w0.25, the recipe wants resnet18w0.5: add --encoder"):
        pretrain([small_store], out=tmp_path / "wrong", init=undisturbed, **{**settings, "encoder": "resnet18w0.5"})


def test_a_loss_that_is_not_finite_is_skipped_counted_and_ends_with_the_cause(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scoutview.pretraining import swav

    true_targets = swav.Swav.targets

    def broken(self: object, views: object, outputs: object, step: int, index: object) -> list[torch.Tensor]:
        codes = true_targets(self, views, outputs, step, index)
        return [code * float("nan") for code in codes] if step in bad else codes

    monkeypatch.setattr(swav.Swav, "targets", broken)
    bad = {1, 2}
    run = pretrain([small_store], out=tmp_path / "skipped", **{**SMALL, "steps": 6, "probe_every": 0})
    assert [line["skipped"] for line in read_metrics(run)] == [2, 2]
    assert all(torch.isfinite(value).all() for value in load_encoder(run).network.state_dict().values())
    bad = set(range(2, 99))
    with pytest.raises(RunError, match="no finite numbers, for too many steps in a row"):
        pretrain([small_store], out=tmp_path / "ended", **{**SMALL, "skip_limit": 3})
    assert (tmp_path / "ended" / "replay.pt").exists()
    assert json.loads((tmp_path / "ended" / "manifest.json").read_text())["status"].startswith("failed: step 4")


CONTRAST = {"method": "simclr", "crops": (2,), "sizes": (40,), "visible": ((0.5, 1.0),)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "dino", "label": ("ct_rough", "mr_rough"), "photo": True}, id="dino, hybrid, photo"),
        pytest.param({"label": "ct_rough", "accumulate": 2, "shared_prototypes": True}, id="shared, in parts"),
        pytest.param(CONTRAST, id="simclr"),
        pytest.param({"method": "supervised", "label": "us_rough"}, id="supervised"),
    ],
)
def test_every_method_continues_bit_by_bit(changes: dict, small_store: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "steps": 4, "log_every": 1, "probe_every": 2, **changes}
    whole = pretrain([small_store], out=tmp_path / "whole", **settings)
    stopped = pretrain([small_store], out=tmp_path / "stopped", stop_after=1e-9, **settings)
    assert not (stopped / "encoder.safetensors").exists()
    pretrain([small_store], out=stopped, **settings)
    (weights, lines), (expected_weights, expected_lines) = learnt(stopped), learnt(whole)
    assert lines == expected_lines
    assert same(weights, expected_weights)
    assert load_encoder(whole).provenance["method"] == settings.get("method", "swav")
    assert (whole / "report.html").exists()


def test_what_a_method_cannot_do_is_refused_before_there_is_a_run_folder(small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="simclr needs the whole batch at once"):
        pretrain([small_store], out=tmp_path / "run", **{**SMALL, **CONTRAST, "accumulate": 2})
    with pytest.raises(UsageError, match="no image has a label 'nothing'; labels in the store: ct_rough"):
        pretrain([small_store], out=tmp_path / "run", **SMALL, label="nothing")
    assert not (tmp_path / "run").exists()


def test_a_modality_with_too_few_images_is_refused_before_anything_starts(tmp_path: Path) -> None:
    make_store(tmp_path / "store", images=10)
    with pytest.raises(UsageError, match="modality xray has 8 images, its share of the batch is 16: use batch_size 32"):
        pretrain([tmp_path / "store"], out=tmp_path / "run", **{**SMALL, "batch_size": 64})
    assert not (tmp_path / "run").exists()


def test_sigterm_on_one_of_two_ranks_ends_both_behind_a_checkpoint_and_the_run_goes_on(
    small_store: Path, tmp_path: Path
) -> None:
    """One rank receives the signal, both stop after the same step; a single rank goes on to the end."""
    out = tmp_path / "run"
    settings = {**SMALL, "steps": 400, "batch_size": 16, "log_every": 1, "probe_every": 0, "checkpoint_every": 400}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    ranks = [
        subprocess.Popen(
            command(small_store, out, {**settings, "precision": "fp32"}),
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    while len(read_metrics(out)) < 3:
        assert all(rank.poll() is None for rank in ranks)
        time.sleep(0.1)
    ranks[1].send_signal(signal.SIGTERM)
    outputs = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    assert "with a checkpoint: the same command goes on from it" in outputs[0][0]
    stopped = max(line["step"] for line in read_metrics(out))
    assert latest_checkpoint(out / "checkpoints").name == f"step-{stopped:09d}.pt"
    assert json.loads((out / "manifest.json").read_text())["status"] == "stopped: another rank"
    assert not (out / "encoder.safetensors").exists()
    assert {line["slowest"] for line in read_metrics(out)} <= {"data", "views", "encoder", "method", "communication"}
    again = pretrain([small_store], out=out, stop_after=1.0 / 3600, **{**settings, "precision": "fp32"})
    later = max(line["step"] for line in read_metrics(again))
    assert stopped < later < 400
    assert json.loads((out / "manifest.json").read_text())["status"] == "stopped: time limit"


def test_a_profile_leaves_a_trace_and_a_table_and_changes_nothing(small_store: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "steps": 10, "probe_every": 0}
    plain = pretrain([small_store], out=tmp_path / "plain", **settings)
    profiled = pretrain([small_store], out=tmp_path / "profiled", profile=True, **settings)
    assert same(learnt(plain)[0], learnt(profiled)[0])
    with gzip.open(profiled / "profile" / "trace.json.gz", "rt") as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert {"aten::convolution", "aten::_fused_sgd_"} <= names
    table = (profiled / "profile" / "table.txt").read_text()
    shares = {line.split()[0]: float(line.split()[2].rstrip("%")) for line in table.splitlines()[3:9]}
    assert set(shares) == set(STAGES)
    assert sum(shares.values()) == pytest.approx(100, abs=0.5)
