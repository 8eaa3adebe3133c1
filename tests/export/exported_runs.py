"""Runs that the tests of exports and predictions share, small and hardly trained, and the network by other means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from scoutview import evaluate, finetune
from scoutview.encoders import load_encoder, save_encoder, untrained_encoder
from scoutview.preprocessing import Preprocessing
from scoutview.tasks import Classifier, save_classifier
from scoutview.tasks.heads import new_head


def make_runs(folder: Path) -> None:
    """Stores `images`, `boxed`; runs `findings`, `classes`, `detector`, `bleedings`; encoder `volumes.safetensors`."""
    from boxed_store import make_boxed_store
    from samples import make_store

    from scoutview.store import Annotation, Store, add_annotations

    make_store(folder / "images", images=20, size=64)
    zones = [Annotation(f"xray-{n:04d}", "label", "zone", "abc"[n % 3]) for n in range(20)]
    add_annotations(Store.open(folder / "images"), zones)
    make_boxed_store(folder / "boxed")
    fast = {"encoder": "none", "steps": 4, "batch_size": 4}
    finetune("classification", folder / "images", out=folder / "findings", label=["xray_rough", "ct_rough"], **fast)
    finetune("classification", folder / "images", out=folder / "classes", label=["zone"], **fast)
    slim = {"input_size": 80, "width": 16, "depth": 1}
    finetune("chest_detection", folder / "boxed", out=folder / "detector", **fast, **slim)
    evaluate(folder / "classes", folder / "images")
    volumes = untrained_encoder("resnet18w0.25_3d", (6, 40, 36), Preprocessing())
    save_encoder(volumes, folder / "volumes.safetensors")
    outputs = ("volume", *(f"slice {number}" for number in range(1, 7)))
    (folder / "bleedings").mkdir()
    bleedings = Classifier(volumes, new_head(volumes.network, 7, slices=6), ("bleeding",), outputs, False)
    save_classifier(bleedings, folder / "bleedings", "hemorrhage_volume")


def expected_logits(run: Path, images: np.ndarray) -> np.ndarray:
    """What a classifier says, from its encoder file and the raw matrix of its head, in float64."""
    network = load_encoder(run).network.double().eval()
    with torch.no_grad():
        features = network(torch.from_numpy(images).double()).numpy()
    head = load_file(run / "head.safetensors")
    return features @ head["weight"].double().numpy().T + head["bias"].double().numpy()


def some_images(count: int, *shape: int) -> np.ndarray:
    """Inputs [count, 1, ...] in [0, 1]."""
    return np.random.default_rng(count).random((count, 1, *shape), dtype=np.float32)
