"""Probes: what kNN and a linear classifier make of frozen features, beside an untrained network and raw pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from scoutview.batches import Archive
from scoutview.encoders import Encoder, untrained_encoder
from scoutview.metrics import knn_scores, macro_auc, patient_bootstrap
from scoutview.tasks.frozen import RAW_SIZE, RAW_VOLUME, frozen_features, linear_scores, raw_pixels
from scoutview.tasks.inputs import cases_for, inputs_for
from scoutview.training import label_task


def probe_label(archive: Archive, encoder: Encoder, name: str, device: str) -> dict[str, Any]:
    """Probe one label: bank is train, the linear probe's strength is chosen on validation, figures are on test.

    Returns the entry of probe.json: classes, counts, and per kind of features the macro AUC of kNN and of the linear
    probe, with 95% intervals over patients.

    Raises:
        UsageError: if the label has too few images in a split.
    """
    cases = cases_for(encoder, archive)
    test = label_task(cases, name, ("train",), ("test",))
    validation = label_task(cases, name, ("train",), ("validation",))
    untrained = untrained_encoder(encoder.architecture, encoder.input_size, encoder.preprocessing)
    inputs = inputs_for(encoder, cases)
    small = RAW_SIZE if encoder.network.spatial_dims == 2 else RAW_VOLUME
    raw = inputs_for(replace(encoder, input_size=small), cases)
    parts = (test.bank, validation.query, test.query)
    kinds = [
        ("this encoder", [frozen_features(encoder, inputs, part, device) for part in parts]),
        ("same network, untrained", [frozen_features(untrained, inputs, part, device) for part in parts]),
        ("raw pixels", [raw_pixels(raw, part) for part in parts]),
    ]
    classes = np.eye(len(test.classes), dtype=np.float32)
    patients = cases.patients(test.query)
    rows = []
    for kind, (bank, chosen_on, query) in kinds:
        neighbours = knn_scores(bank, test.bank_targets, query, len(test.classes))
        linear = linear_scores(
            bank, classes[test.bank_targets], chosen_on, classes[validation.query_targets], query, exclusive=True
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
