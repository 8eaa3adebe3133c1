"""A fine-tuned classifier on disk: its encoder file, and the head beside it."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from scoutview.encoders import load_encoder, save_encoder
from scoutview.errors import UsageError
from scoutview.files import replacing
from scoutview.tasks.classification import Classifier


def save_classifier(model: Classifier, run: Path) -> None:
    """Write encoder.safetensors and head.safetensors into a run folder."""
    save_encoder(model.encoder, run / "encoder.safetensors")
    metadata = {
        "task": "classification",
        "labels": json.dumps(model.labels),
        "classes": json.dumps(model.classes),
        "exclusive": json.dumps(model.exclusive),
    }
    with replacing(run / "head.safetensors") as temporary:
        weights = {name: value.detach().cpu().contiguous() for name, value in model.head.state_dict().items()}
        save_file(weights, temporary, metadata=metadata)


def load_classifier(run: Path) -> Classifier:
    """Load what `save_classifier` wrote.

    Raises:
        UsageError: if the run holds no finished classifier.
    """
    path = run / "head.safetensors"
    if not path.is_file():
        raise UsageError(f"{run} holds no fine-tuned model: make one with scoutview finetune classification")
    encoder = load_encoder(run)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            weights = {name: file.get_tensor(name) for name in ("weight", "bias")}
        classes = tuple(json.loads(metadata["classes"]))
        head = nn.Linear(encoder.network.features, len(classes))
        head.load_state_dict(weights)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged or does not fit its encoder ({error}): fine-tune again") from error
    labels = tuple(json.loads(metadata["labels"]))
    return Classifier(encoder, head, labels, classes, bool(json.loads(metadata["exclusive"])))
