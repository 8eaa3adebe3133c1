"""What is public is documented: every name that a room lists, the methods of its classes, and every command."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import scoutview
from scoutview.__main__ import build_parser

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "scoutview"
REFERENCE = REPOSITORY / "docs" / "reference"


def rooms() -> list[str]:
    """Every folder of the package that lists public names, such as tasks.detection."""
    found = [file.parent for file in sorted(PACKAGE.glob("*/**/__init__.py")) if "__all__ = " in file.read_text()]
    return [".".join(folder.relative_to(PACKAGE).parts) for folder in found]


@cache
def documented_constants(room: str) -> set[str]:
    """Names that are assigned somewhere in a room with a text below, as editors and the manual show it."""
    names = set()
    for file in (PACKAGE / room).rglob("*.py"):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for statement, below in pairwise(body):
            text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if text and isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def undocumented(module: ModuleType) -> list[str]:
    """The public names of a room without a docstring of their own, with those of their public methods."""
    missing = []
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            text = thing.__dict__.get("__doc__") or ""
            if not text or text.startswith(f"{thing.__name__}("):  # what @dataclass writes
                missing.append(name)
            for key, member in vars(thing).items():
                if isinstance(member, property):
                    member = member.fget
                function = getattr(member, "__func__", member)
                field = key in getattr(thing, "__dataclass_fields__", {})  # its default may be a function
                if not key.startswith("_") and not field and inspect.isfunction(function) and not function.__doc__:
                    missing.append(f"{name}.{key}")
        elif inspect.isfunction(thing):
            if not thing.__doc__:
                missing.append(name)
        elif name not in documented_constants(module.__name__.split(".")[1]):
            missing.append(name)
    return missing


@pytest.mark.parametrize("room", rooms())
def test_every_public_name_has_a_docstring(room: str) -> None:
    assert undocumented(import_module(f"scoutview.{room}")) == []


@pytest.mark.parametrize("command", scoutview.COMMANDS)
def test_every_command_says_what_its_arguments_are(command: str) -> None:
    function = getattr(import_module(f"scoutview.commands.{command}"), command)
    text = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^    {parameter}: ", text, re.M), f"{command}: {parameter} is not in Args"


@pytest.mark.parametrize("command", scoutview.COMMANDS)
def test_every_option_has_a_help(command: str) -> None:
    parser, _, _ = build_parser(getattr(import_module(f"scoutview.commands.{command}"), command))
    assert [action.dest for action in parser._actions if not (action.help or "").strip()] == []


def test_the_reference_shows_every_command_and_room() -> None:
    shown = {
        target
        for page in REFERENCE.glob("*.md")
        for target in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.M)
    }
    assert {f"scoutview.commands.{name}.{name}" for name in scoutview.COMMANDS} <= shown
    assert {f"scoutview.{room}" for room in rooms()} <= shown
    for target in shown:
        holder, _, name = target.rpartition(".")
        assert hasattr(import_module(holder), name), target
