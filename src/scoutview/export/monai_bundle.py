"""A MONAI bundle: configs/metadata.json, configs/inference.json, models/model.pt2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoutview import __version__
from scoutview.export.extras import needed
from scoutview.export.model import ExportModel, describe, preprocessing_of
from scoutview.export.parity import Runner, arrays
from scoutview.export.torch_program import FILE, write_program
from scoutview.export.writing import Format
from scoutview.files import write_json

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
CONFIG = "configs/inference.json"


def write_bundle(model: ExportModel, folder: Path) -> None:
    """Write the bundle; its network is the graph of `torch_program`, so that it needs monai and torch only."""
    for name in ("configs", "models"):
        (folder / name).mkdir()
    write_program(model, folder / "models")
    write_json(folder / "configs" / "metadata.json", metadata_of(model))
    write_json(folder / CONFIG, inference())


def metadata_of(model: ExportModel) -> dict[str, Any]:
    """What metadata.json says, by the names of the schema."""
    monai = needed("monai", "monai").__version__
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": 1,
        "spatial_shape": list(model.shape[1:]),
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {"0": "image"},
    }
    outputs: dict[str, Any] = {
        name: {
            "type": "probabilities" if name == "scores" else "tuples",
            "format": output.meaning,
            "num_channels": max(len(model.classes), 1),
            "spatial_shape": [],
            "dtype": "float32",
            "value_range": [],
            "is_patch_data": False,
            "channel_def": {str(number): label for number, label in enumerate(model.classes)},
        }
        for name, output in model.outputs.items()
    }
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by scoutview {__version__}"},
        "monai_version": monai.partition("+")[0],
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {},
        "name": model.name,
        "task": model.task,
        "description": f"{model.encoder.architecture}, {model.task}",
        "authors": "not stated",
        "copyright": "not stated",
        "data_type": "npy, made by scoutview",
        "intended_use": "research; no medical device",
        "network_data_format": {"inputs": {"image": image}, "outputs": outputs},
        "preprocessing": preprocessing_of(model),
        "scoutview": describe(model),
    }


def inference() -> dict[str, Any]:
    """What inference.json says: the network on every inputs/*.npy, which are network inputs already."""
    return {
        "imports": ["$import numpy", "$import torch", "$from pathlib import Path"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/inputs'",
        "output_dir": "$@bundle_root + '/outputs'",
        "device": "$torch.device('cpu')",
        "network_def": f"$torch.export.load(str(Path(@bundle_root) / 'models' / '{FILE}')).module()",
        "network": "$@network_def",
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
        "datalist": "$sorted(Path(@dataset_dir).glob('*.npy'))",
        "initialize": ["$Path(@output_dir).mkdir(exist_ok=True)"],
        "run": [
            "$[torch.save(@inferer(torch.from_numpy(numpy.load(path))[None], @network), "
            "Path(@output_dir) / (path.stem + '.pt')) for path in @datalist]"
        ],
    }


def load_bundle(folder: Path) -> Runner:
    """The network and the inferer as monai's own parser builds them from the bundle."""
    needed("monai", "monai")
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / CONFIG))
    parser.read_meta(str(folder / "configs" / "metadata.json"))
    parser["bundle_root"] = str(folder)
    network, inferer = parser.get_parsed_content("network"), parser.get_parsed_content("inferer")
    return lambda images: arrays(inferer(torch.from_numpy(images), network))


MONAI = Format(
    file=CONFIG,
    tool="monai.bundle",
    usage=f"""```sh
python -m monai.bundle run --bundle_root . --meta_file configs/metadata.json --config_file {CONFIG}
```

It runs `inputs/*.npy`, each one network input [1, row, column] or [1, slice, row, column] as described below, and
leaves `outputs/*.pt`. There are no transforms of MONAI for the preprocessing: none of its percentiles and resampling
gives the same numbers. `scoutview predict` goes from files to predictions.""",
    write=write_bundle,
    load=load_bundle,
)
