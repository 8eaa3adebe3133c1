"""The prototypes of a run, read from its newest checkpoint: the encoder file does not hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.encoders import Encoder, Projector
from scoutview.errors import RunError
from scoutview.training import latest_checkpoint, load_checkpoint
from scoutview.training.run_folder import read_config

_PARTS = ("encoder.", "projector.", "prototypes.")
_AT_ONCE = 4096


@dataclass(frozen=True)
class TrainedPrototypes:
    """projector: in evaluation mode. matrices: modality, or several joined by "+", -> unit rows [K, F]."""

    step: int
    projector: Projector
    matrices: dict[str, npt.NDArray[np.float32]]

    def of(self, modality: str) -> str | None:
        """The key of the prototypes that serve a modality, if there are any."""
        return next((name for name in self.matrices if modality in name.split("+")), None)

    @torch.inference_mode()
    def project(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Features [image, feature] of the encoder as unit vectors [image, F] beside the prototypes."""
        blocks = [features[begin : begin + _AT_ONCE] for begin in range(0, len(features), _AT_ONCE)]
        projected: npt.NDArray[np.float32] = np.concatenate(
            [self.projector(torch.from_numpy(block)).numpy() for block in blocks]
        )
        return projected


def trained_prototypes(run: Path, encoder: Encoder) -> TrainedPrototypes | str:
    """The prototypes of a run folder and their projector, or a sentence on why there are none for this encoder.

    Raises:
        RunError: if the newest checkpoint is damaged.
    """
    if not (run / "config.yaml").is_file():
        return f"{run.name} is no run folder, and prototypes lie in the checkpoints of one."
    config = read_config(run)
    if config.get("method") != "swav":
        return f"The run's method, {config.get('method')}, learns no prototypes."
    path = latest_checkpoint(run / "checkpoints")
    if path is None:
        return "The run has no checkpoint any more, and encoder.safetensors holds no prototypes."
    state = load_checkpoint(path)
    try:
        return _of(state, config, encoder, path)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(f"{path} is no checkpoint of this run ({error}): remove it, or take the encoder file") from error


def _of(state: Mapping[str, Any], config: Mapping[str, Any], encoder: Encoder, path: Path) -> TrainedPrototypes | str:
    # Beside a classifier of labels the method's network has a name of its own.
    network = {name.removeprefix("unlabelled."): value for name, value in state["network"].items()}
    parts = {part: _below(network, part) for part in _PARTS}
    weights = encoder.network.state_dict()
    if not all(torch.equal(parts["encoder."][name], value.cpu()) for name, value in weights.items()):
        return f"The encoder is not that of the newest checkpoint, {path.name}, to which the prototypes belong."
    layers = parts["projector."]
    hidden, features = layers["layers.0.weight"].shape
    projector = Projector(features, hidden, len(layers["layers.3.weight"]))
    projector.load_state_dict(layers)
    matrices = {
        name: parts["prototypes."][f"matrices.{number}"].float().numpy()
        for number, name in enumerate(config["prototypes"])
    }
    return TrainedPrototypes(int(state["progress"]["step"]), projector.eval(), matrices)


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
