"""Data flows one way: a room imports only rooms that stand above it in the house."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "scoutview"
ROOMS = (
    "images",
    "phantoms",
    "store",
    "preprocessing",
    "ingest",
    "views",
    "batches",
    "encoders",
    "metrics",
    "training",
    "pretraining",
    "tasks",
    "study",
    "report",
    "export",
    "commands",
    "recipes",
)
FOUNDATION = {"errors", "files", "memory", "objects", "progress"}


def imported_rooms(file: Path) -> set[str]:
    """Names below scoutview that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module] if node.module != "scoutview" else [f"scoutview.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        found |= {module.split(".")[1] for module in modules if module.startswith("scoutview.")}
    return found


@pytest.mark.parametrize("room", [name for name in ROOMS if (PACKAGE / name).is_dir()])
def test_a_room_imports_only_rooms_above_it(room: str) -> None:
    allowed = FOUNDATION | set(ROOMS[: ROOMS.index(room) + 1]) | {"__version__"}
    for file in sorted((PACKAGE / room).rglob("*.py")):
        strange = imported_rooms(file) - allowed
        assert not strange, f"{file.relative_to(PACKAGE)} imports {strange}"


def test_every_folder_of_the_package_is_a_known_room() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(ROOMS)


def test_the_foundation_imports_no_room() -> None:
    for name in FOUNDATION:
        assert imported_rooms(PACKAGE / f"{name}.py") <= FOUNDATION


def test_nothing_imports_torchvision() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert "import torchvision" not in file.read_text()
        assert "from torchvision" not in file.read_text()
