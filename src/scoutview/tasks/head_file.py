"""What a fine-tuned model keeps beside its encoder file: tensors, and words about them, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from scoutview.encoders import misfits
from scoutview.files import replacing

FILE = "head.safetensors"
"""Written last: where it is, the model is finished."""


def write_head(run: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write the file into a run folder, atomically; metadata names the `task`."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with replacing(run / FILE) as temporary:
        save_file(tensors, temporary, metadata=dict(metadata))


def read_head(run: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(metadata, weights) of the file in a run folder.

    Raises:
        SafetensorError, OSError: if it cannot be read.
    """
    with safe_open(run / FILE, framework="pt") as file:
        return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_checked_head(
    run: Path, announced: Callable[[Mapping[str, str]], nn.Module]
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The same, after names and shapes were compared with the network that its metadata announce.

    Raises:
        ValueError: if they differ.
        SafetensorError, OSError: if it cannot be read; and what `announced` raises.
    """
    with safe_open(run / FILE, framework="pt") as file:
        metadata = dict(file.metadata() or {})
    wrong = misfits(run / FILE, lambda: announced(metadata))
    if wrong:
        raise ValueError(f"{len(wrong)} tensors do not fit, first {wrong[0]}")
    return read_head(run)


def names_in(metadata: Mapping[str, str], key: str) -> tuple[str, ...]:
    """A list of names from the metadata.

    Raises:
        KeyError, ValueError, RecursionError: if there is none.
    """
    names = json.loads(metadata[key])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} is no list of names")
    return tuple(names)
