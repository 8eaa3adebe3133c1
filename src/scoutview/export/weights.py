"""model.safetensors: the weights under the network's own names, and as metadata what is needed to build and use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from scoutview.encoders import encoder_metadata, misfits, untrained_encoder
from scoutview.errors import UsageError
from scoutview.export.model import ClassifierNetwork, DetectorNetwork, ExportModel, describe
from scoutview.export.parity import Runner, arrays
from scoutview.export.writing import Format
from scoutview.preprocessing import Preprocessing
from scoutview.tasks.classification import Classifier
from scoutview.tasks.detection import new_detector
from scoutview.tasks.heads import new_head

FILE = "model.safetensors"


def write_weights(model: ExportModel, folder: Path) -> None:
    """Write model.safetensors; that of an encoder is an encoder file, too, which other commands take."""
    metadata = describe(model)
    if model.task == "encoder":
        metadata |= encoder_metadata(model.encoder)
    weights = {name: value.detach().contiguous() for name, value in model.network.state_dict().items()}
    save_file(weights, folder / FILE, metadata=metadata)


def load_exported(path: Path) -> nn.Module:
    """The network of an exported model.safetensors, in evaluation mode; see `ExportModel` for its input and outputs.

    Raises:
        UsageError: if the file is none, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        wrong = misfits(path, lambda: build_network(metadata))
        if wrong:
            raise ValueError(f"{len(wrong)} tensors do not fit, first {wrong[0]}")
        network = build_network(metadata)
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is no exported model, or damaged ({error}): export it again") from error
    return network.eval().requires_grad_(False)


def build_network(metadata: Mapping[str, str]) -> nn.Module:
    """The network that the metadata of `describe` are about, with weights of no meaning."""
    shape = json.loads(metadata["input"])["shape"][1:]
    size: Any = tuple(shape) if len(shape) == 3 else shape[0]
    encoder = untrained_encoder(metadata["architecture"], size, Preprocessing())
    classes = tuple(json.loads(metadata["classes"]))
    match metadata["task"]:
        case "encoder":
            return encoder.network
        case "chest_detection":
            layers = json.loads(metadata["layers"])
            return DetectorNetwork(new_detector(encoder, classes, size, layers["width"], layers["depth"]))
    head = new_head(encoder.network, len(classes), json.loads(metadata["layers"])["slices"])
    return ClassifierNetwork(Classifier(encoder, head, (), classes, bool(json.loads(metadata["exclusive"]))))


def load_weights(folder: Path) -> Runner:
    """The file as safetensors reads it, in a network that is built from its metadata alone."""
    network = load_exported(folder / FILE)
    return lambda images: arrays(network(torch.from_numpy(images)))


SAFETENSORS = Format(
    file=FILE,
    tool="safetensors",
    usage="""```python
from pathlib import Path
from scoutview.export import load_exported

network = load_exported(Path("model.safetensors"))  # a torch module
```

The weights have the network's own parameter names; a ResNet's end as in torchvision's files. An exported encoder is an
encoder file, too: scoutview takes it as ENCODER.""",
    write=write_weights,
    load=load_weights,
)
