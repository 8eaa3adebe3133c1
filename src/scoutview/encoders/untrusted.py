"""Files of weights that may be anybody's: no code is run, and a small file takes no large memory."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn


def load_plain(path: Path) -> Any:
    """What torch.save wrote, on the CPU: tensors and plain values.

    A tensor may announce any shape and hold one value: compare shapes before computing with it.

    Raises:
        pickle.UnpicklingError: if it holds anything else.
        OSError, RuntimeError, EOFError, ValueError, KeyError: if it cannot be read.
    """
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(str(error)) from error
        # torch.save compresses nothing; torch.load would inflate members to any size.
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("it holds more than its size, which torch.save writes never")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (AttributeError, TypeError, IndexError, AssertionError, OverflowError, MemoryError) as error:
        raise pickle.UnpicklingError(f"{type(error).__name__} {error}") from error


def misfits(path: Path, make: Callable[[], nn.Module]) -> list[str]:
    """Names of the tensors that are not in both the file and the network, or not of the same shape, sorted.

    path: of safetensors. make: builds the network that the file's metadata announce; it is built here without memory
    for its weights, so that a small file cannot ask for a large network.

    Raises:
        SafetensorError, OSError: if the file cannot be read.
        RuntimeError: if the network is too large for torch to count its weights.
    """
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in make().state_dict().items()}
    with safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
