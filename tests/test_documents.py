"""What the documents say is true: command lines parse, Python runs, links lead somewhere, messages are the code's."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from samples import make_store

import scoutview
from scoutview.__main__ import parse
from scoutview.encoders import save_encoder, untrained_encoder
from scoutview.files import write_text
from scoutview.ingest.refusals import FIXES
from scoutview.preprocessing import Preprocessing
from scoutview.training import RunFolder

REPOSITORY = Path(__file__).resolve().parents[1]
MANUAL = REPOSITORY / "docs"
PAGES = sorted(MANUAL.glob("**/*.md"))
DOCUMENTS = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *PAGES])
SHELL = ("", "sh", "bash")


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of a document in one of the languages; "" is a block that names none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)
    return [text for language, text in found if language in languages]


def code_lines(path: Path) -> list[str]:
    """The command lines of a document, without comments; a line that ends in a backslash goes on."""
    joined = "".join(blocks(path, *SHELL)).replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_parse(path: Path) -> None:
    for line in code_lines(path):
        words = shlex.split(line)
        if "-m" in words and words[words.index("-m") + 1] == "scoutview":  # under torchrun or srun
            words = words[words.index("-m") + 1 :]
        if words[:1] == ["scoutview"] and len(words) > 1 and words[1] not in ("--completion", "--version"):
            assert words[1] in scoutview.COMMANDS, line
            function = getattr(import_module(f"scoutview.commands.{words[1]}"), words[1])
            assert parse(function, words[2:]), line
        elif words[:1] == ["make"]:
            targets = (REPOSITORY / "Makefile").read_text()
            assert re.search(rf"^{words[1]}:", targets, re.M), line
        elif words[:1] == ["python"]:
            assert (REPOSITORY / words[1]).is_file(), line


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a reader has a store and a run: what the Python of the pages reads."""
    folder = tmp_path_factory.mktemp("manual")
    make_store(folder / "store", images=6, size=64)
    encoder = untrained_encoder("resnet18w0.25", 64, Preprocessing())
    RunFolder(folder / "run").prepare({"method": "swav"}, {})
    save_encoder(encoder, folder / "run" / "encoder.safetensors")
    (folder / "demo").mkdir()
    (folder / "demo" / "pretraining").symlink_to(folder / "run")  # as the tutorial calls it
    write_text(folder / "run" / "metrics.jsonl", '{"step": 10, "modalities": {"ct": {"loss": 2.0, "ln_k": 2.1}}}\n')
    return folder


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=lambda path: path.name)
def test_python_runs(path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("SCOUTVIEW_KEY", "of a test")
    names: dict[str, Any] = {"__name__": path.stem}
    for text in blocks(path, "python"):
        exec(compile(text, path.name, "exec"), names)


def test_the_method_of_the_manual_learns(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scoutview.pretraining.methods import METHODS

    names: dict[str, Any] = {"__name__": "manual"}
    exec("".join(blocks(MANUAL / "methods.md", "python")), names)
    monkeypatch.setitem(METHODS, "simclr", names["Pull"])  # under a name that recipes know
    shorter = {"steps": 2, "log_every": 1, "batch_size": 8, "workers": 0, "probe_every": 0, "projector_hidden": 32}
    run = scoutview.pretrain(
        [workplace / "store"],
        out=workplace / "pull",
        recipe="small_cpu",
        method="simclr",
        crops=[2],
        sizes=[32],
        visible=[[0.6, 1.0]],
        **shorter,
    )
    lines = [line for line in (run / "metrics.jsonl").read_text().splitlines() if "modalities" in line]
    assert len(lines) == 2
    assert np.isfinite(yaml.safe_load(lines[-1])["loss"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_yaml_is_yaml(path: Path) -> None:
    for text in blocks(path, "yaml"):
        assert list(yaml.safe_load_all(text)), text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def pages_of(nav: Any) -> list[str]:
    """The pages that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(part)]


def test_every_page_is_found_from_the_navigation() -> None:
    named = pages_of(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(set(named)) == len(named)
    for folder in ("decisions", "results"):
        listed = re.findall(r"\]\(([\w-]+\.md)\)", (MANUAL / folder / "index.md").read_text(encoding="utf-8"))
        assert len(set(listed)) == len(listed)
        named += [f"{folder}/{page}" for page in listed]
    there = {path.relative_to(MANUAL).as_posix() for path in PAGES}
    assert there <= set(named), f"add to mkdocs.yml, or to the index of its folder: {sorted(there - set(named))}"
    assert set(named) <= there, f"there is no {sorted(set(named) - there)}"


@pytest.mark.skipif(
    not (find_spec("mkdocs") and find_spec("material") and find_spec("mkdocstrings")), reason="no mkdocs"
)
def test_the_manual_builds_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.glob("**/*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]*src=\"?https?:", text), page.name
        assert not re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect)\"?[^>]*href=\"?https?:", text), page.name
    assert "sinkhorn" in (tmp_path / "search" / "search_index.json").read_text(encoding="utf-8")


@cache
def texts_of_the_code() -> str:
    """All string literals of the package, the fixed parts of f-strings among them."""
    found = []
    for file in (REPOSITORY / "src").rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        found += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(found)


def test_messages_of_the_page_on_trouble_are_those_of_the_code() -> None:
    text = (MANUAL / "troubleshooting.md").read_text(encoding="utf-8")
    messages = [message for line in re.findall(r"^#+ (.*)$", text, re.M) for message in re.findall(r"`([^`]+)`", line)]
    assert len(messages) > 20
    for message in messages:
        for part in filter(None, (piece.strip(" :()") for piece in message.split("…"))):
            if message not in ("none", "too many open files"):
                assert part in texts_of_the_code(), f"{message!r}: {part!r}"


def test_every_decision_has_its_number_once() -> None:
    numbers = [path.name[:3] for path in (MANUAL / "decisions").glob("[0-9]*.md")]
    assert len(set(numbers)) == len(numbers)
    assert all(number.isdecimal() for number in numbers)


def test_the_page_on_ingest_lists_every_reason() -> None:
    text = (MANUAL / "ingest.md").read_text(encoding="utf-8")
    listed = text.split("| reason | what would accept the file |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    assert listed.splitlines() == [f"| `{code}` | {fix} |" for code, fix in sorted(FIXES.items())]
