"""The completion script, run by bash as it runs it on the tab key."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import scoutview
from scoutview.__main__ import main

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    assert main(["--completion"]) == 0
    file = tmp_path / "scoutview.bash"
    file.write_text(capsys.readouterr().out)
    return file


def offered(script: Path, *words: str) -> list[str]:
    """What bash offers behind `scoutview` and some words, the last of which is being typed."""
    typed = " ".join(f"'{word}'" for word in ("scoutview", *words))
    lines = f'. {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _scoutview; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-uc", lines], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_what_is_offered(script: Path) -> None:
    assert offered(script, "") == [*scoutview.COMMANDS, "--help", "--version"]
    assert sorted(offered(script, "pre")) == ["predict", "pretrain"]
    assert offered(script, "pretrain", "store", "--stop") == ["--stop_after"]
    assert {"--steps", "--out", "--help"} <= set(offered(script, "pretrain", "store", "--"))
    assert offered(script, "pretrain", "store", "--changed_store", "") == ["refuse", "accept"]
    assert offered(script, "ingest", "files", "--modality", "x") == ["xray"]
    assert offered(script, "finetune", "chest") == ["chest_detection"]
    assert offered(script, "ingest", "a") == []  # bash offers files


def test_every_command_knows_its_options(script: Path) -> None:
    for command in scoutview.COMMANDS:
        assert "--help" in offered(script, command, "--"), command
