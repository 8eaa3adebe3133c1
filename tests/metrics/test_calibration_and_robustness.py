"""Calibration, the sensitivity at a specificity and robustness against scikit-learn, matplotlib and loops."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.cbook import boxplot_stats
from scipy.special import logit
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from scoutview.errors import UsageError
from scoutview.metrics import (
    box_plot,
    brier_score,
    evaluate_robustness,
    expected_calibration_error,
    patient_bootstrap,
    relative_changes,
    reliability,
    roc_auc,
    sensitivity_at_specificity,
)
from scoutview.metrics.auc import weighted_sensitivity


def sample(seed: int, n: int = 200, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = generator.beta(1, 3, n).round(decimals)
    return probabilities, generator.random(n) < probabilities**0.8


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 2, 8])
@pytest.mark.parametrize("bins", [1, 5, 10, 15])
def test_reliability_equals_scikit_learn(seed: int, decimals: int, bins: int) -> None:
    """One decimal lies on the borders of the bins."""
    probabilities, positives = sample(seed, decimals=decimals)
    points = reliability(probabilities, positives, bins)
    observed, mean = calibration_curve(positives, probabilities, n_bins=bins)
    filled = points.images > 0
    np.testing.assert_allclose(points.observed[filled], observed)
    np.testing.assert_allclose(points.mean_probability[filled], mean)
    assert points.images.sum() == 200
    assert np.isnan(points.observed[~filled]).all()
    assert brier_score(probabilities, positives) == pytest.approx(oracle.brier_score_loss(positives, probabilities))


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_calibration_error_equals_a_loop(bins: int) -> None:
    probabilities, positives = sample(5)
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, p in enumerate(probabilities) if low < p <= high or (number == 0 and p == 0)]
        if inside:
            gap = np.mean([probabilities[i] for i in inside]) - np.mean([float(positives[i]) for i in inside])
            total += len(inside) / len(probabilities) * abs(gap)
    assert expected_calibration_error(probabilities, positives, bins) == pytest.approx(total)


def test_calibration_at_its_ends() -> None:
    assert expected_calibration_error([0.0, 1.0, 1.0], [0, 1, 1]) == 0
    assert expected_calibration_error([1.0, 0.0], [0, 1]) == 1
    assert brier_score([1.0, 0.0], [0, 1]) == 1
    assert np.isnan(expected_calibration_error([], []))
    assert np.isnan(brier_score([], []))
    for wrong in ([1.2], [-0.1]):
        with pytest.raises(UsageError, match=r"give values in \[0, 1\]"):
            brier_score(wrong, [1])
    with pytest.raises(UsageError, match="at least one"):
        reliability([0.5], [1], bins=0)


def test_a_calibrated_model_has_a_smaller_error_than_an_overconfident_one() -> None:
    generator = np.random.default_rng(6)
    probabilities = generator.random(4000)
    positives = generator.random(4000) < probabilities
    overconfident = (probabilities > 0.5) * 0.9 + 0.05
    right = patient_bootstrap(
        expected_calibration_error, probabilities, positives, patients=np.arange(4000), rounds=100
    )
    wrong = patient_bootstrap(
        expected_calibration_error, overconfident, positives, patients=np.arange(4000), rounds=100
    )
    assert right.high < 0.05 < wrong.low
    assert wrong.value == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_sensitivity_at_a_specificity_equals_a_search_over_thresholds(
    seed: int, decimals: int, specificity: float
) -> None:
    generator = np.random.default_rng(seed)
    positives = generator.random(120) < 0.4
    scores = (generator.normal(size=120) + positives).round(decimals)
    best = 0.0
    for threshold in [*scores, np.inf]:
        called = scores >= threshold
        if np.mean(~called[~positives]) >= specificity:
            best = max(best, float(np.mean(called[positives])))
    assert sensitivity_at_specificity(scores, positives, specificity) == pytest.approx(best)
    false_rate, true_rate, _ = oracle.roc_curve(positives, scores, drop_intermediate=False)
    assert best == pytest.approx(true_rate[false_rate <= 1 - specificity + 1e-12].max())


def test_sensitivity_under_weights_equals_repeated_images() -> None:
    generator = np.random.default_rng(8)
    scores, positives = generator.integers(0, 6, 40).astype(float), generator.random(40) < 0.4
    weights = generator.integers(0, 3, (30, 40)).astype(float)
    found = weighted_sensitivity(scores, positives, weights, 0.8)
    for value, counts in zip(found, weights.astype(int), strict=True):
        expected = sensitivity_at_specificity(np.repeat(scores, counts), np.repeat(positives, counts), 0.8)
        np.testing.assert_allclose(value, expected)
    # 9 of 10 negatives is 0.9, though 1 - 0.9 is less than 1 / 10.
    assert sensitivity_at_specificity(np.arange(11.0), np.arange(11) == 9, 0.9) == 1
    for absent in (np.zeros(3), np.ones(3)):
        assert np.isnan(sensitivity_at_specificity(np.arange(3.0), absent, 0.5))
    assert np.isnan(sensitivity_at_specificity([], [], 0.5))
    with pytest.raises(UsageError, match="asks for 90%"):
        sensitivity_at_specificity([1.0], [1], 90)


def moved(seed: int, cases: int = 20, transforms: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    before = generator.random(cases).round(2)
    after = (before[:, None] + generator.normal(0, 0.1, (cases, transforms))).clip(0, 1)
    return before, after, generator.random(cases) < before, generator.integers(8, size=cases)


def test_changes_are_relative_to_at_least_a_thousandth() -> None:
    before, after, _, _ = moved(0)
    before[:2] = 0.0, 0.0005
    changes = relative_changes(before, after)
    for case in range(len(before)):
        for transform in range(after.shape[1]):
            expected = (after[case, transform] - before[case]) / max(before[case], 0.001)
            assert changes[case, transform] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_box_plots_equal_matplotlib(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.standard_t(2, size=37) if seed else np.asarray([0.0, 0.0, 0.0, 1.0, 9.0])
    expected = boxplot_stats(values)[0]
    assert box_plot(values) == pytest.approx(
        {
            "low": expected["whislo"],
            "first_quartile": expected["q1"],
            "median": expected["med"],
            "third_quartile": expected["q3"],
            "high": expected["whishi"],
            "outside": len(expected["fliers"]),
        }
    )


def test_robustness_equals_the_plain_bootstrap() -> None:
    before, after, positives, patients = moved(1)
    found = evaluate_robustness(before, after, positives, patients, rounds=60, seed=2)

    def logit_change(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.median(np.abs(logit(q.clip(1e-6, 1 - 1e-6)) - logit(p.clip(1e-6, 1 - 1e-6))[:, None])))

    statistics = {
        "median_change": lambda p, q, _: float(np.median(np.abs(relative_changes(p, q)))),
        "median_logit_change": lambda p, q, _: logit_change(p, q),
        "auc": lambda p, _, y: roc_auc(p, y),
        "auc_transformed": lambda _, q, y: float(np.mean([roc_auc(column, y) for column in q.T])),
    }
    for name, statistic in statistics.items():
        expected = patient_bootstrap(statistic, before, after, positives, patients=patients, rounds=60, seed=2)
        assert found[name] == pytest.approx(expected.as_dict()), name
    assert found["changes"] == box_plot(relative_changes(before, after))
    assert (found["cases"], found["transforms"]) == (20, 7)


def test_a_constant_model_does_not_move_and_says_nothing() -> None:
    _, _, positives, patients = moved(2)
    found = evaluate_robustness(np.full(20, 0.3), np.full((20, 7), 0.3), positives, patients, rounds=20)
    assert found["median_change"]["value"] == 0
    assert found["auc_transformed"]["value"] == 0.5


def test_wrong_input_is_named() -> None:
    before, after, positives, patients = moved(3)
    with pytest.raises(UsageError, match="do not match"):
        relative_changes(before, after.T)
    with pytest.raises(UsageError, match=r"outside \[0, 1\]"):
        relative_changes(before, after + 1)
    with pytest.raises(UsageError, match="one key per case"):
        evaluate_robustness(before, after, positives, patients[:-1])
    with pytest.raises(UsageError, match="no values"):
        box_plot([])
