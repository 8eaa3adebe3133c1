"""The tutorial does what it says: every block runs in order, as a reader would, and leaves the files of its tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
SHELL = 'scoutview() { echo "\\$ scoutview $*"; "$PYTHON" -m scoutview "$@"; }\n'


def script(text: str) -> str:
    """One shell script of all blocks, so that what a block exports holds for the next."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.S | re.M)
    return SHELL + "".join(
        code if language == "sh" else f"\"$PYTHON\" - <<'PYTHON_BLOCK'\n{code}PYTHON_BLOCK\n"
        for language, code in blocks
    )


def named_files(text: str) -> list[str]:
    """Patterns of the files that tables "in `folder`" say are there: "…" stands for what differs."""
    patterns = []
    for folder, rows in re.findall(r"^\| in `([^`]+)` \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M):
        for cells in re.findall(r"^\| (.*?) \| (.*)", rows, re.M):
            if "not there while" not in cells[1]:
                patterns += [
                    f"{folder}/{name.rstrip('/').replace('…', '*')}" for name in re.findall(r"`(.*?)`", cells[0])
                ]
    return patterns


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(tmp_path: Path) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "SCOUTVIEW_KEY"}
    environment["PYTHON"] = sys.executable
    words = ["bash", "-eu", "-c", script(text)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    names = named_files(text)
    assert len(names) > 15
    for name in names:
        assert list(tmp_path.glob(name)), name
