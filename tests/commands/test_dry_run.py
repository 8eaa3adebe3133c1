"""A dry run says what the real one then does, and leaves every file as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import scoutview
from scoutview.__main__ import main
from scoutview.errors import UsageError
from scoutview.phantoms import write_phantoms

SMALL = {
    "steps": 2,
    "batch_size": 8,
    "workers": 0,
    "probe_every": 0,
    "crops": [2],
    "sizes": [32],
    "visible": [[0.6, 1]],
}


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was changed, and its bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, patients={"xray": 3, "us": 2}, seed=0, size=64, slices=1)
    (folder / "images" / "broken.dcm").write_bytes(b"no image")
    return folder


def test_ingest_counts_as_the_real_one(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOUTVIEW_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    whole, part = phantoms / "images", tmp_path / "part"
    part.mkdir()
    files = sorted(path for path in whole.rglob("*") if path.is_file())
    shutil.copy(next(path for path in files if path.name != "broken.dcm"), part)
    store = tmp_path / "store"
    foreseen = scoutview.ingest([whole], out=store, workers=1, dry_run=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part", "scratch"]  # no store, no secret
    assert not list((tmp_path / "scratch").iterdir())
    assert foreseen.taken == len(files) - 1
    assert sum(foreseen.reasons.values()) == 1
    scoutview.ingest([part], out=store, workers=1)
    before = everything(store)
    again = scoutview.ingest([whole], out=store, workers=1, dry_run=True)
    assert everything(store) == before
    assert again == scoutview.ingest([whole], out=store, workers=1)
    before = everything(store)
    assert scoutview.ingest([whole], out=store, workers=1, dry_run=True).counts() == again.counts()
    assert everything(store) == before


def test_a_dry_ingest_refuses_what_the_real_one_refuses(phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"holds other files and no store\.json"):
        scoutview.ingest([phantoms / "images"], out=tmp_path, workers=1, dry_run=True)


def test_pretraining(small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    scoutview.pretrain([small_store], out=run, recipe="small_cpu", dry_run=True, **SMALL)
    said = capsys.readouterr()
    assert "would make the run" in said.out
    assert not list(tmp_path.iterdir())
    scoutview.pretrain([small_store], out=run, recipe="small_cpu", stop_after=0.0, **SMALL)
    shown = [line for line in capsys.readouterr().err.splitlines() if ": " in line and line.startswith("  ")]
    assert shown
    assert set(shown) <= set(said.err.splitlines())  # settings and their reasons
    before = everything(run)
    scoutview.pretrain([small_store], out=run, recipe="small_cpu", dry_run=True, **SMALL)
    assert "would go on with the run" in capsys.readouterr().out
    with pytest.raises(UsageError, match="other settings"):
        scoutview.pretrain([small_store], out=run, recipe="small_cpu", dry_run=True, **{**SMALL, "seed": 5})
    assert everything(run) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds no run"):
        scoutview.pretrain([small_store], out=tmp_path / "full", recipe="small_cpu", dry_run=True, **SMALL)


def test_fine_tuning(small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune", "classification", str(small_store), "--encoder", "none", "--label", "ct_rough", "--out"]
    words += [str(tmp_path / "model"), "--steps", "1"]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "would be made" in said
    assert not list(tmp_path.iterdir())
    assert main(words) == 0
    kept = yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())
    capsys.readouterr()
    before = everything(tmp_path)
    assert main([*words, "--dry-run"]) == 0
    again = capsys.readouterr().out
    assert "is finished" in again
    assert f"  learning_rate: {kept['learning_rate']}\n" in said
    assert everything(tmp_path) == before


def test_a_study(small_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    content = {"stores": [str(small_store)], "tasks": ["ct_rough"], "fractions": [1.0], "seeds": 2}
    content |= {"encoders": {"ours": {"recipe": "small_cpu", "steps": 1}}}
    file.write_text(yaml.safe_dump(content))
    foreseen = scoutview.study(file, out=tmp_path / "out", dry_run=True)
    assert foreseen == {"cells": 6, "done": 0}  # ours, random weights and raw pixels, twice
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
