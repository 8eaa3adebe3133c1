"""Writing files so that a kill at any moment leaves the old content or the new one, never half of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success fsync it, rename it to `path` and fsync the folder.

    On any error the temporary file is removed and `path` keeps its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def left_over(path: Path) -> list[Path]:
    """Temporary files that a kill left where `path` was being written; nobody will finish them."""
    return sorted(path.parent.glob(f".{path.name}.*.tmp"))


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace the file's content with UTF-8 `text`, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace the file's content with indented JSON, atomically; NaN and infinity become null."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def inert(cell: Any) -> Any:
    """A cell of a CSV file; a text that a spreadsheet would take for a formula has an apostrophe before it."""
    if not isinstance(cell, str):
        return cell
    # A carriage return would end the row, which the csv module does not see.
    return ("'" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else "") + cell.replace("\r", " ")


MOST_VALUES = 10**6
"""Far more than any settings have."""


def read_yaml(text: str) -> Any:
    """Plain values from YAML: no objects, and no aliases of aliases that unfold without end.

    Raises:
        ValueError: if it is none, or unfolds to more than a million values.
    """
    try:
        value = yaml.safe_load(text)
        _unfolded(value, {})
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error
    return value


def _unfolded(value: Any, known: dict[int, int]) -> int:
    """How many values there are when every alias is written out; known: of mappings and lists by their id."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST_VALUES + 1  # found again below itself, it has no end
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_unfolded(part, known) for part in parts)
    if known[id(value)] > MOST_VALUES:
        raise ValueError(f"it unfolds to more than {MOST_VALUES} values")
    return known[id(value)]


def finite(value: Any) -> Any:
    """The same nested value with None in place of NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value
