"""The encoder file: safetensors weights with architecture, preprocessing, input size and provenance as metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from scoutview.encoders.architectures import InputSize, Network, fits, make_encoder
from scoutview.encoders.untrusted import misfits
from scoutview.errors import RunError, UsageError
from scoutview.files import replacing
from scoutview.preprocessing import Preprocessing

FORMAT = "scoutview-encoder-1"
LARGEST_BATCH = 64 * 224 * 224
"""Voxels of volumes that go through a network together."""


@dataclass(frozen=True)
class Encoder:
    """A network with all that is needed to use it.

    network: [image, 1, row, column] in [0, 1] -> features [image, F], or of volumes [volume, 1, depth, row, column].
    input_size: side in px of the square that `network_input` makes for it; of a network for volumes (depth, rows,
    columns). provenance: where the weights come from; {} for an untrained network.
    """

    architecture: str
    network: Network
    preprocessing: Preprocessing
    input_size: InputSize
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        if not fits(self.network, self.input_size):
            raise ValueError(f"{self.architecture} has no input size {self.input_size}")

    @property
    def image_side(self) -> int:
        """The input size of a network for images.

        Raises:
            UsageError: if it is one for volumes.
        """
        if isinstance(self.input_size, int):
            return self.input_size
        raise UsageError(f"{self.architecture} is a network for volumes: give an encoder of images, such as resnet50")

    @property
    def volume_size(self) -> tuple[int, int, int]:
        """The input size of a network for volumes.

        Raises:
            UsageError: if it is one for images.
        """
        if isinstance(self.input_size, tuple):
            return self.input_size
        raise UsageError(
            f"{self.architecture} is a network for images: give an encoder of volumes, such as densenet_3d"
        )

    @property
    def at_once(self) -> int:
        """How many inputs go through the network together when it is not trained: 64, or as many as have their size."""
        return max(1, min(64, LARGEST_BATCH // int(np.prod(self.input_size)))) if self.network.spatial_dims == 3 else 64

    @property
    def name(self) -> str:
        """For tables: the architecture, and whether it was trained."""
        return self.architecture if self.provenance else f"{self.architecture}, untrained"


def untrained_encoder(architecture: str, input_size: InputSize, preprocessing: Preprocessing, seed: int = 0) -> Encoder:
    """The same network with random weights: the reference of every comparison."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_encoder(architecture)
    return Encoder(architecture, network, preprocessing, input_size, {})


def save_encoder(encoder: Encoder, path: Path) -> None:
    """Write the file atomically, and load it again before it takes its name.

    Raises:
        RunError: if what was written does not load to the same weights.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata=encoder_metadata(encoder))
        written = _load(temporary).network.state_dict()
        if any(not torch.equal(value, written[name]) for name, value in weights.items()):
            raise RunError(f"{path} does not hold the weights that were written, when it is read back: check the disk")


def encoder_metadata(encoder: Encoder) -> dict[str, str]:
    """What an encoder file says beside its weights; a file with more than this is one, too."""
    return {
        "format": FORMAT,
        "architecture": encoder.architecture,
        "preprocessing": json.dumps(asdict(encoder.preprocessing)),
        "input_size": json.dumps(encoder.input_size),
        "provenance": json.dumps(encoder.provenance, sort_keys=True),
    }


def load_encoder(source: Path | str) -> Encoder:
    """Load an encoder file, or that of a run folder.

    Raises:
        UsageError: if there is none, it is damaged, not scoutview's, or does not fit its own architecture.
    """
    path = Path(source)
    if path.is_dir():
        path = path / "encoder.safetensors"
    if not path.is_file():
        raise UsageError(
            f"{source} has no encoder: give a run folder, an encoder.safetensors file, or none for random weights"
        )
    return _load(path)


def _load(path: Path) -> Encoder:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} cannot be read as safetensors ({error}): it is damaged or no such file") from error
    if metadata.get("format") != FORMAT:
        raise UsageError(f"{path} is no {FORMAT} file (format {metadata.get('format')}): export it with scoutview")
    try:
        architecture = metadata["architecture"]
        size = json.loads(metadata["input_size"])
        preprocessing = Preprocessing.from_dict(json.loads(metadata["preprocessing"]))
        provenance = dict(json.loads(metadata["provenance"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} does not describe its network in full ({error!r}): it is damaged, take another copy"
        ) from error
    wrong = misfits(path, lambda: make_encoder(architecture))
    if wrong:
        raise UsageError(
            f"{path} claims to be a {architecture}, but {len(wrong)} of its tensors do not fit it "
            f"(first: {wrong[0]}): it is damaged or of another architecture"
        )
    network = make_encoder(architecture)
    size = tuple(size) if isinstance(size, list) else size
    if not fits(network, size):
        raise UsageError(
            f"{path} claims to be a {architecture} of input size {size}, which there is not: it is damaged"
        )
    network.load_state_dict(load_file(path), strict=True)
    return Encoder(architecture, network, preprocessing, size, provenance)
