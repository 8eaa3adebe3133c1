"""Probes: what kNN and a linear classifier make of frozen features, beside an untrained network and raw pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive, read_unit_image
from scoutview.encoders import Encoder, embed_images, untrained_encoder
from scoutview.metrics import knn_scores, macro_auc, patient_bootstrap
from scoutview.tasks.frozen import linear_scores
from scoutview.training import LabelTask, label_task
from scoutview.views import network_input

RAW_SIZE = 32
"""Raw pixels are compared as 32 x 32 images."""


def probe_label(archive: Archive, encoder: Encoder, name: str, device: str) -> dict[str, Any]:
    """Probe one label: bank is train, the linear probe's strength is chosen on validation, figures are on test.

    Returns the entry of probe.json: classes, counts, and per kind of features the macro AUC of kNN and of the linear
    probe, with 95% intervals over patients.

    Raises:
        UsageError: if the label has too few images in a split.
    """
    test = label_task(archive, name, ("train",), ("test",))
    validation = label_task(archive, name, ("train",), ("validation",))
    untrained = untrained_encoder(encoder.architecture, encoder.input_size, encoder.preprocessing)
    kinds = [
        ("this encoder", _features(archive, test, validation, encoder, device)),
        ("same network, untrained", _features(archive, test, validation, untrained, device)),
        ("raw pixels", _raw(archive, test, validation, encoder)),
    ]
    patients = archive.patients(test.query)
    rows = []
    for kind, (bank, chosen_on, query) in kinds:
        neighbours = knn_scores(bank, test.bank_targets, query, len(test.classes))
        classes = np.eye(len(test.classes), dtype=np.float32)
        [linear] = linear_scores(
            bank, classes[test.bank_targets], chosen_on, classes[validation.query_targets], [query], exclusive=True
        )
        rows.append(
            {
                "features": kind,
                "knn_auc": patient_bootstrap(macro_auc, neighbours, test.query_targets, patients=patients).as_dict(),
                "linear_auc": patient_bootstrap(macro_auc, linear, test.query_targets, patients=patients).as_dict(),
            }
        )
    return {
        "modality": test.modality,
        "classes": list(test.classes),
        "bank_images": len(test.bank),
        "test_images": len(test.query),
        "test_patients": len(set(patients.tolist())),
        "rows": rows,
    }


Features = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]


def _parts(test: LabelTask, validation: LabelTask) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    return test.bank, validation.query, test.query


def _features(archive: Archive, test: LabelTask, validation: LabelTask, encoder: Encoder, device: str) -> Features:
    """Features of bank, validation query and test query."""

    def embed(indices: Sequence[int]) -> npt.NDArray[np.float32]:
        images = (read_unit_image(archive, index, encoder.preprocessing)[0] for index in indices)
        return embed_images(encoder, images, device=device)

    bank, chosen_on, query = (embed(part) for part in _parts(test, validation))
    return bank, chosen_on, query


def _raw(archive: Archive, test: LabelTask, validation: LabelTask, encoder: Encoder) -> Features:
    def flat(indices: Sequence[int]) -> npt.NDArray[np.float32]:
        images = (read_unit_image(archive, index, encoder.preprocessing)[0] for index in indices)
        return np.stack([network_input(image, RAW_SIZE).ravel() for image in images])

    bank, chosen_on, query = (flat(part) for part in _parts(test, validation))
    return bank, chosen_on, query
