"""Study files on the small store, and the results that a study left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import yaml

from scoutview.encoders import Encoder, make_encoder, save_encoder
from scoutview.preprocessing import Preprocessing
from scoutview.study.plan import Cell

TASKS = {"ct_rough": ["ct_rough"], "mr_rough": ["mr_rough"]}


def make_folder(path: Path, store: Path) -> Path:
    """A folder with a store and the encoder files ours and other."""
    for seed, name in enumerate(("ours", "other")):
        torch.manual_seed(seed)
        encoder = Encoder("resnet18w0.125", make_encoder("resnet18w0.125"), Preprocessing(), 48, {"method": name})
        save_encoder(encoder, path / f"{name}.safetensors")
    shutil.copytree(store, path / "store")
    return path


def write(file: Path, **changes: object) -> Path:
    """A study file beside the store; None leaves a key out."""
    content = {
        "stores": ["store"],
        "tasks": TASKS,
        "encoders": {"ours": "ours.safetensors", "other": "other.safetensors"},
        "fractions": [1.0],
        "seeds": 2,
        "finetune": {"steps": 6, "batch_size": 8},
        **changes,
    }
    file.write_text(
        yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False)
    )
    return file


def result(out: Path, cell: Cell) -> dict:
    """What a cell left."""
    return json.loads((cell.folder(out) / "result.json").read_text())
