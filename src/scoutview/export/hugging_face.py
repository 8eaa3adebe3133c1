"""A folder as a model hub takes it: config.json, model.safetensors, README.md."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from scoutview.export.model import ExportModel, describe
from scoutview.export.parity import Runner, arrays
from scoutview.export.weights import FILE, build_network, write_weights
from scoutview.export.writing import Format
from scoutview.files import write_json

CONFIG = "config.json"
_TEXTS = ("format", "task", "architecture", "parity")


def write_folder(model: ExportModel, folder: Path) -> None:
    """Write config.json and model.safetensors; the card is written for every format."""
    write_weights(model, folder)
    told = {name: value if name in _TEXTS else json.loads(value) for name, value in describe(model).items()}
    labels = {"id2label": dict(enumerate(model.classes)), "label2id": {n: k for k, n in enumerate(model.classes)}}
    kind = {"model_type": "scoutview", "num_channels": 1, "image_size": model.shape[1:]}
    write_json(folder / CONFIG, {**kind, **told, **(labels if model.classes else {})})


def load_folder(folder: Path) -> Runner:
    """The network that config.json describes, with the bare tensors of model.safetensors."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    network = build_network({name: value if name in _TEXTS else json.dumps(value) for name, value in config.items()})
    network.load_state_dict(load_file(folder / FILE))
    network.eval().requires_grad_(False)
    return lambda images: arrays(network(torch.from_numpy(images)))


HUGGING_FACE = Format(
    file=CONFIG,
    tool="safetensors, with the network that config.json names,",
    usage="""```python
from pathlib import Path
from scoutview.export import load_exported

network = load_exported(Path("model.safetensors"))  # a torch module
```

It needs torch, safetensors and scoutview, and no transformers: `AutoModel.from_pretrained` does not know it. Without
scoutview, `safetensors.torch.load_file` gives the tensors under the network's own names.""",
    write=write_folder,
    load=load_folder,
)
