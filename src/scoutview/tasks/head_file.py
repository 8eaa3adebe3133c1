"""What a fine-tuned model keeps beside its encoder file: tensors, and words about them, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

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
