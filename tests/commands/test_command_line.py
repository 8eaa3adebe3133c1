"""The command line: exit codes, one line for every mistake, options that follow the signatures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import scoutview
from scoutview.__main__ import build_parser, main, overview
from scoutview.commands.pretrain import pretrain


def complaint(capsys: pytest.CaptureFixture[str], words: list[str], code: int) -> str:
    """Run, check the exit code, return the one line on stderr."""
    assert main(words) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrian"], "scoutview: unknown command 'pretrian': did you mean pretrain?"),
        (["pretrain", "STORE", "--stepz", "3", "--out", "x"], "unknown option --stepz: did you mean --steps?"),
        (["pretrain", "STORE", "--steps", "abc", "--out", "x"], '"steps"'),
        (["pretrain", "STORE", "--epsilon", "0.001", "--out", "x"], "epsilon 0.001 is below 0.023"),
        (["pretrain", "STORE"], "out"),
        (["pretrain", "STORE", "--out", "x", "--recipe", "huge"], "no recipe 'huge': use ct_3d, demo, mixed_2d"),
        (["fsck"], "store"),
        (["finetune", "detection", "STORE", "--encoder", "none", "--out", "x", "--label", "a"], "detection"),
        (["probe", "nowhere", "STORE", "--label", "a", "--out", "x"], "STORE is not a store"),
        (["ingest", "nowhere", "--out", "x"], "nowhere"),
        (["evaluate", "nowhere", "STORE"], "nowhere holds no fine-tuned model"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [str(tmp_path / word) if word in ("STORE", "x", "nowhere") else word for word in words]
    line = complaint(capsys, words, 2)
    assert message.replace("STORE", str(tmp_path / "STORE")) in line.replace(f"{tmp_path}/nowhere", "nowhere")


def test_encoders_that_do_not_fit_are_said(
    capsys: pytest.CaptureFixture[str], small_store: Path, tmp_path: Path
) -> None:
    (tmp_path / "encoder.safetensors").write_bytes(b"not safetensors")
    line = complaint(capsys, ["embed", str(tmp_path), str(small_store), "--out", str(tmp_path / "e.parquet")], 2)
    assert "cannot be read as safetensors" in line
    line = complaint(capsys, ["probe", "none", str(small_store), "--label", "nope", "--out", str(tmp_path)], 2)
    assert "no image has a label 'nope'; labels in the store: ct_rough" in line


def test_help_shows_every_option_with_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = overview()
    assert capsys.readouterr().out.strip() == text
    for name in scoutview.COMMANDS:
        assert f"  {name}" in text
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert "--" in capsys.readouterr().out
    parser, _, settings = build_parser(pretrain)
    undocumented = [action.dest for action in parser._actions if not action.help]
    assert undocumented == []
    assert {"method", "steps", "batch_size", "seed", "workers", "encoder"} <= settings


def test_the_public_functions_are_the_commands() -> None:
    assert scoutview.ingest is scoutview.commands.ingest.ingest  # not the room of the same name
    for name in scoutview.COMMANDS:
        assert callable(getattr(scoutview, name))
        assert getattr(scoutview, name).__name__ == name


def test_embed_writes_one_vector_per_image(small_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.parquet"
    scoutview.embed("none", small_store, out=out)
    table = pq.read_table(out)
    assert table.column_names == ["id", "modality", "patient", "embedding"]
    assert table.num_rows == 96
    assert len(table["embedding"][0].as_py()) == 128
    assert sorted(set(table["modality"].to_pylist())) == ["ct", "mr", "us", "xray"]


@pytest.mark.slow
def test_the_demo_does_the_whole_chain(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "scoutview", "demo", "--out", str(tmp_path / "demo")],
        check=True,
        capture_output=True,
        text=True,
        timeout=900,
    )
    report = Path(result.stdout.strip().splitlines()[-1])
    assert report.name == "report.html"
    assert report.stat().st_size > 100_000
    probes = json.loads((tmp_path / "demo" / "pretraining" / "probe.json").read_text())["probes"]
    assert len(probes) == 4
