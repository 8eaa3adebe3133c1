"""What the documents say can be typed: every command line in them parses, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

import scoutview
from scoutview.__main__ import parse
from scoutview.ingest.refusals import FIXES

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/**/*.md")])


def code_lines(path: Path) -> list[str]:
    """The lines of a document's fenced blocks, without comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_parse(path: Path) -> None:
    for line in code_lines(path):
        words = shlex.split(line)
        if words[:1] == ["scoutview"] and len(words) > 1:
            assert words[1] in scoutview.COMMANDS, line
            function = getattr(import_module(f"scoutview.commands.{words[1]}"), words[1])
            assert parse(function, words[2:]), line
        elif words[:1] == ["make"]:
            targets = (REPOSITORY / "Makefile").read_text()
            assert re.search(rf"^{words[1]}:", targets, re.M), line
        elif words[:1] == ["python"]:
            assert (REPOSITORY / words[1]).is_file(), line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_every_decision_has_its_number_once() -> None:
    numbers = [path.name[:3] for path in (REPOSITORY / "docs" / "decisions").glob("*.md")]
    assert len(set(numbers)) == len(numbers)
    assert all(number.isdecimal() for number in numbers)


def test_the_page_on_ingest_lists_every_reason() -> None:
    text = (REPOSITORY / "docs" / "ingest.md").read_text(encoding="utf-8")
    listed = text.split("| reason | what would accept the file |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    assert listed.splitlines() == [f"| `{code}` | {fix} |" for code, fix in sorted(FIXES.items())]
