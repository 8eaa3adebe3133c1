"""Classifiers on frozen features: logistic regression whose strength is chosen on validation, and nearest neighbours.

Targets are columns [image, class] in {0, 1} as in `Targets`: exclusive classes, or findings, NaN where unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from scoutview.encoders import Encoder
from scoutview.metrics import knn_scores
from scoutview.tasks.classification import mean_auc
from scoutview.tasks.inputs import Inputs

RAW_SIZE = 32
"""Raw pixels are compared as 32 x 32 images."""
RAW_VOLUME = (8, 16, 16)
"""Of volumes as so many slices, rows and columns."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation of the logistic regression."""

Features = npt.NDArray[np.float32]
Columns = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


def frozen_features(encoder: Encoder, inputs: Inputs, indices: Sequence[int], device: str) -> Features:
    """Features [image, F] of images or volumes of an archive, in evaluation mode."""
    network, step = encoder.network.to(device).eval(), encoder.at_once
    parts = [indices[first : first + step] for first in range(0, len(indices), step)]
    with torch.inference_mode():
        return torch.cat([network(inputs.batch(part).to(device)).cpu() for part in parts]).float().numpy()


def raw_pixels(inputs: Inputs, indices: Sequence[int]) -> Features:
    """Pixels [image, (slice x) row x column] as features: what a probe must beat to have needed a network."""
    return inputs.batch(indices).flatten(1).numpy()


def linear_scores(
    bank: Features,
    bank_values: Columns,
    chosen_on: Features,
    chosen_values: Columns,
    query: Features,
    exclusive: bool,
) -> Scores:
    """Probabilities [image, class] of `query`, by the strength with the best mean AUC on `chosen_on`."""
    scaler = StandardScaler().fit(bank)
    bank, *parts = (scaler.transform(part) for part in (bank, chosen_on, query))
    tried = [_logistic(bank, bank_values, parts, exclusive, strength) for strength in STRENGTHS]
    return max(tried, key=lambda scores: mean_auc(scores[0], chosen_values))[1]


def neighbour_scores(bank: Features, bank_values: Columns, query: Features, exclusive: bool) -> Scores:
    """Votes [image, class] of the nearest neighbours among the images whose class is known."""
    if exclusive:
        return knn_scores(bank, bank_values.argmax(1), query, bank_values.shape[1])
    columns = []
    for values in bank_values.T:
        known = ~np.isnan(values)
        columns.append(knn_scores(bank[known], (values[known] > 0.5).astype(np.int64), query, 2)[:, 1])
    return np.stack(columns, axis=1)


def _logistic(
    bank: Features, values: Columns, parts: Sequence[Features], exclusive: bool, strength: float
) -> list[Scores]:
    scores = [np.zeros((len(part), values.shape[1])) for part in parts]
    if exclusive:
        model = LogisticRegression(C=strength, max_iter=500).fit(bank, values.argmax(1))
        for part, filled in zip(parts, scores, strict=True):
            filled[:, model.classes_] = model.predict_proba(part)
        return scores
    for number, column in enumerate(values.T):
        known = ~np.isnan(column)
        if len(np.unique(column[known])) < 2:
            continue
        model = LogisticRegression(C=strength, max_iter=500).fit(bank[known], column[known] > 0.5)
        for part, filled in zip(parts, scores, strict=True):
            filled[:, number] = model.predict_proba(part)[:, 1]
    return scores
