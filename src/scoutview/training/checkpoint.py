"""Checkpoints: everything a run needs to go on, one file per step, written atomically; the last n are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from scoutview.encoders import load_plain
from scoutview.errors import RunError
from scoutview.files import replacing

_NAME = re.compile(r"step-(\d{9})\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """checkpoints/step-000000120.pt: the state after 120 steps."""
    return folder / f"step-{step:09d}.pt"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state after `step` steps, then remove all but the newest `keep`."""
    path = checkpoint_path(folder, step)
    with replacing(path) as temporary:
        torch.save(state, temporary)
    for old in _checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint, or None."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code.

    Raises:
        RunError: if the file is damaged.
    """
    try:
        state: dict[str, Any] = load_plain(path)
        if not isinstance(state, dict):
            raise ValueError("it holds no state of a run")
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{path} cannot be read ({cause}): remove it to go on from the one before") from error
    return state


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Around what puts the state of a checkpoint to use: one of something else is an error of one line.

    Raises:
        RunError: if the state has other parts or shapes.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(
            f"{path} is no checkpoint of this run ({cause}): remove it to go on from the one before"
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name))
