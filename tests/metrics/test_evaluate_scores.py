"""evaluation.json's content against scikit-learn and against the plain bootstrap with the same draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as oracle

from scoutview.errors import UsageError
from scoutview.files import write_json
from scoutview.metrics import (
    accuracy,
    average_precision,
    evaluate_scores,
    expected_calibration_error,
    patient_bootstrap,
    roc_auc,
    sensitivity_at_specificity,
)


def sample(classes: int, n: int = 90, unknown: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(classes)
    targets = (generator.random((n, classes)) < 0.4).astype(float)
    scores = (generator.normal(size=(n, classes)) + targets).round(1) / 4 + 0.3
    targets[generator.random(targets.shape) < unknown] = np.nan
    return scores, targets, np.asarray([f"p{k}" for k in generator.integers(30, size=n)])


def test_binary_equals_the_plain_bootstrap() -> None:
    scores, targets, patients = sample(1)
    found = evaluate_scores(scores, targets, patients, ["lesion"], rounds=100, seed=4)
    flat, positives = scores[:, 0], targets[:, 0] == 1
    for measure, statistic in (("auc", roc_auc), ("ap", average_precision)):
        expected = patient_bootstrap(statistic, flat, positives, patients=patients, rounds=100, seed=4)
        assert found["metrics"][measure] == pytest.approx(expected.as_dict())
        assert found["per_class"]["lesion"][measure] == pytest.approx(expected.as_dict())
    right = patient_bootstrap(lambda s, p: accuracy(s, p, 0.5), flat, positives, patients=patients, rounds=100, seed=4)
    assert found["metrics"]["accuracy"] == pytest.approx(right.as_dict() | {"threshold": 0.5})
    assert found["per_class"]["lesion"]["positives"] == positives.sum()
    assert (found["n_images"], found["n_patients"]) == (90, len(set(patients.tolist())))
    assert set(found) == {"n_images", "n_patients", "metrics", "per_class", "curves", "reliability"}
    curves = found["curves"]["lesion"]
    area = np.trapezoid(curves["true_positive_rate"], curves["false_positive_rate"])
    assert area == pytest.approx(found["metrics"]["auc"]["value"])


def test_several_classes_with_unknown_targets() -> None:
    scores, targets, patients = sample(3, unknown=0.3)
    targets[:5] = np.nan
    found = evaluate_scores(scores, targets, patients, ["a", "b", "c"], threshold=0.4, rounds=60, seed=2)

    def macro(scores: np.ndarray, targets: np.ndarray) -> float:
        known = ~np.isnan(targets)
        return float(np.mean([oracle.roc_auc_score(targets[known[:, c], c], scores[known[:, c], c]) for c in range(3)]))

    assert found["n_images"] == np.count_nonzero(~np.isnan(targets).all(axis=1))
    taken = ~np.isnan(targets).all(axis=1)
    expected = patient_bootstrap(macro, scores[taken], targets[taken], patients=patients[taken], rounds=60, seed=2)
    assert found["metrics"]["auc"] == pytest.approx(expected.as_dict())
    known = ~np.isnan(targets[:, 1])
    assert found["per_class"]["b"]["images"] == known.sum()
    assert found["per_class"]["b"]["ap"]["value"] == pytest.approx(
        oracle.average_precision_score(targets[known, 1], scores[known, 1])
    )
    shares = [np.mean((scores[k, c] >= 0.4) == targets[k, c]) for c, k in enumerate((~np.isnan(targets)).T)]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(shares))


def test_a_class_without_positives_has_no_figures(tmp_path: Path) -> None:
    scores, targets, patients = sample(2)
    targets[:, 1] = 0
    found = evaluate_scores(scores, targets, patients, ["a", "b"], rounds=20)
    assert np.isnan(found["per_class"]["b"]["auc"]["value"])
    assert found["per_class"]["b"]["auc"]["ignored_resamples"] == 20
    assert found["curves"]["b"]["recall"] == []
    assert found["metrics"]["auc"]["value"] == found["per_class"]["a"]["auc"]["value"]
    write_json(tmp_path / "evaluation.json", found)
    read = json.loads((tmp_path / "evaluation.json").read_text())
    assert read["per_class"]["b"]["auc"]["value"] is None


def test_curves_stay_small_and_keep_their_ends() -> None:
    generator = np.random.default_rng(0)
    targets = (generator.random((3000, 1)) < 0.2).astype(float)
    found = evaluate_scores(generator.random((3000, 1)), targets, np.arange(3000), ["a"], rounds=5)
    for curve in found["curves"]["a"].values():
        assert len(curve) == 500
    assert found["curves"]["a"]["false_positive_rate"][0] == 0
    assert found["curves"]["a"]["true_positive_rate"][-1] == 1


def test_wrong_input_is_named() -> None:
    scores, targets, patients = sample(2)
    with pytest.raises(UsageError, match="one different name per column"):
        evaluate_scores(scores, targets, patients, ["a", "a"])
    with pytest.raises(UsageError, match="do not match"):
        evaluate_scores(scores, targets[:3], patients, ["a", "b"])
    with pytest.raises(UsageError, match="class b: positives hold values"):
        evaluate_scores(scores, targets * [1, 2], patients, ["a", "b"])
    with pytest.raises(UsageError, match="no image has a known target"):
        evaluate_scores(scores, targets * np.nan, patients, ["a", "b"])


def test_sensitivity_and_calibration_equal_the_plain_bootstrap() -> None:
    generator = np.random.default_rng(3)
    targets = (generator.random((120, 1)) < 0.4).astype(float)
    scores = (0.5 * targets + generator.random((120, 1))).clip(0, 1.4) / 1.4
    patients = np.asarray([f"p{k}" for k in generator.integers(40, size=120)])
    found = evaluate_scores(scores, targets, patients, ["lesion"], rounds=80, seed=6)
    statistics = {
        "sensitivity": lambda s, p: sensitivity_at_specificity(s, p, 0.9),
        "brier": lambda s, p: oracle.brier_score_loss(p, s),
        "calibration_error": expected_calibration_error,
    }
    for name, statistic in statistics.items():
        arrays = (scores[:, 0], targets[:, 0] == 1)
        expected = patient_bootstrap(statistic, *arrays, patients=patients, rounds=80, seed=6).as_dict()
        assert found["per_class"]["lesion"][name] == pytest.approx(expected)
        assert {key: found["metrics"][name][key] for key in expected} == pytest.approx(expected)
    assert found["metrics"]["sensitivity"]["specificity"] == 0.9
    points = found["reliability"]["lesion"]
    assert sum(points["images"]) == 120
    gaps = np.abs(np.subtract(points["mean_probability"], points["observed"])) @ np.array(points["images"]) / 120
    assert gaps == pytest.approx(found["metrics"]["calibration_error"]["value"])


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    scores, targets, patients = sample(1)
    found = evaluate_scores(scores * 10, targets, patients, ["a"], rounds=5)
    assert np.isnan(found["metrics"]["brier"]["value"])
    assert found["reliability"]["a"]["images"] == []
    assert found["metrics"]["sensitivity"]["value"] == sensitivity_at_specificity(scores[:, 0], targets[:, 0], 0.9)
