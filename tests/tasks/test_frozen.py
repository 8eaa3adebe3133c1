"""Classifiers on frozen features against scikit-learn used directly."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoutview.tasks.frozen import STRENGTHS, linear_scores, neighbour_scores


def cohort(seed: int, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(features, one-hot): classes a little apart."""
    generator = np.random.default_rng(seed)
    numbers = np.arange(images) % classes
    features = generator.standard_normal((images, 12)) + 0.5 * np.eye(classes, 12)[numbers] * 2
    return features.astype(np.float32), np.eye(classes, dtype=np.float32)[numbers]


def test_exclusive_classes_take_the_strength_that_is_best_on_validation() -> None:
    (bank, values), (chosen, chosen_values), (query, _) = cohort(0, 60, 3), cohort(1, 45, 3), cohort(2, 30, 3)
    scores = linear_scores(bank, values, chosen, chosen_values, query, exclusive=True)
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500)).fit(bank, values.argmax(1))
        for strength in STRENGTHS
    ]
    aucs = [roc_auc_score(chosen_values, model.predict_proba(chosen), average="macro") for model in models]
    expected = models[int(np.argmax(aucs))].predict_proba(query)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_findings_are_learnt_one_by_one_from_the_images_where_they_are_known() -> None:
    bank, values = cohort(0, 60, 2)
    values[::5, 0] = np.nan
    query = cohort(2, 30, 2)[0]
    scores = linear_scores(bank, values, *cohort(1, 40, 2), query, exclusive=False)
    known = ~np.isnan(values[:, 0])
    scaler = StandardScaler().fit(bank)
    candidates = [
        LogisticRegression(C=strength, max_iter=500)
        .fit(scaler.transform(bank)[known], values[known, 0])
        .predict_proba(scaler.transform(query))[:, 1]
        for strength in STRENGTHS
    ]
    assert min(np.abs(scores[:, 0] - each).max() for each in candidates) < 1e-5
    votes = neighbour_scores(bank, values, query, exclusive=False)
    changed = bank.copy()
    changed[~known] += 100.0
    np.testing.assert_allclose(neighbour_scores(changed, values, query, exclusive=False)[:, 0], votes[:, 0])


def test_a_finding_that_is_never_present_gets_no_score_and_breaks_nothing() -> None:
    bank, values = cohort(0, 20, 2)
    values[:, 1] = 0.0
    scores = linear_scores(bank, values, *cohort(1, 20, 2), bank, exclusive=False)
    assert (scores[:, 1] == 0).all()
    assert scores[:, 0].std() > 0
