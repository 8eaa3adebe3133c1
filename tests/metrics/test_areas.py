"""Areas and curves against scikit-learn and against pairs counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from scoutview.errors import UsageError
from scoutview.metrics import (
    accuracy,
    average_precision,
    macro_auc,
    precision_recall_curve,
    roc_auc,
    roc_curve,
)
from scoutview.metrics.auc import weighted_accuracy, weighted_areas

# Few distinct values, so that ties within and between the classes are the rule.
LABELLED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=0, max_size=40)


def brute_auc(scores: np.ndarray, positives: np.ndarray) -> float:
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[positives] for b in scores[~positives]]
    return float(np.mean(pairs)) if pairs else float("nan")


def brute_average_precision(scores: np.ndarray, positives: np.ndarray) -> float:
    total = positives.sum()
    if total == 0:
        return float("nan")
    area = recall = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        found = (positives & taken).sum()
        area += (found / total - recall) * found / taken.sum()
        recall = found / total
    return area


def arrays(labelled: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray([s for s, _ in labelled], float), np.asarray([p for _, p in labelled], bool)


@settings(max_examples=150, deadline=None)
@given(LABELLED)
def test_areas_equal_brute_force_with_ties_and_absent_classes(labelled: list[tuple[int, bool]]) -> None:
    scores, positives = arrays(labelled)
    np.testing.assert_allclose(roc_auc(scores, positives), brute_auc(scores, positives), atol=1e-12)
    np.testing.assert_allclose(
        average_precision(scores, positives), brute_average_precision(scores, positives), atol=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(LABELLED.filter(lambda labelled: len({p for _, p in labelled}) == 2), st.randoms())
def test_order_and_monotone_scaling_change_nothing(labelled: list, random: object) -> None:
    scores, positives = arrays(labelled)
    order = np.arange(len(scores))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert roc_auc(np.exp(scores[order] / 3), positives[order]) == pytest.approx(roc_auc(scores, positives))
    assert roc_auc(-scores, positives) == pytest.approx(1 - roc_auc(scores, positives))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_areas_and_curves_equal_scikit_learn(seed: int, decimals: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=200).round(decimals)
    positives = generator.random(200) < 0.3
    assert roc_auc(scores, positives) == pytest.approx(oracle.roc_auc_score(positives, scores))
    assert average_precision(scores, positives) == pytest.approx(oracle.average_precision_score(positives, scores))
    false_rate, true_rate, _ = oracle.roc_curve(positives, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(scores, positives), (false_rate, true_rate))
    precision, recall, _ = oracle.precision_recall_curve(positives, scores)
    np.testing.assert_allclose(precision_recall_curve(scores, positives), (recall[::-1], precision[::-1]))
    assert accuracy(scores, positives, 0.25) == oracle.accuracy_score(positives, scores >= 0.25)
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(roc_auc(scores, positives))


def test_weights_equal_repeated_images() -> None:
    generator = np.random.default_rng(1)
    scores, positives = generator.integers(0, 6, 30).astype(float), generator.random(30) < 0.4
    weights = generator.integers(0, 4, (50, 30)).astype(float)
    auc, ap = weighted_areas(scores, positives, weights)
    right = weighted_accuracy(scores, positives, weights, 2.5)
    for row, counts in enumerate(weights.astype(int)):
        many = np.repeat(scores, counts), np.repeat(positives, counts)
        np.testing.assert_allclose(auc[row], brute_auc(*many))
        np.testing.assert_allclose(ap[row], brute_average_precision(*many))
        np.testing.assert_allclose(right[row], np.mean((many[0] >= 2.5) == many[1]))


def test_macro_auc_is_the_mean_over_classes_present() -> None:
    generator = np.random.default_rng(2)
    scores = generator.dirichlet(np.ones(4), size=90)
    targets = generator.choice([0, 1, 3], size=90)
    expected = np.mean([oracle.roc_auc_score(targets == c, scores[:, c]) for c in (0, 1, 3)])
    assert macro_auc(scores, targets) == pytest.approx(expected)
    full = generator.integers(4, size=90)
    assert macro_auc(scores, full) == pytest.approx(
        oracle.roc_auc_score(full, scores, multi_class="ovr", average="macro")
    )
    assert np.isnan(macro_auc(scores, np.zeros(90, int)))


def test_absent_classes_give_nan() -> None:
    for positives in (np.zeros(4, bool), np.ones(4, bool)):
        assert np.isnan(roc_auc(np.arange(4.0), positives))
    assert np.isnan(average_precision(np.arange(4.0), np.zeros(4, bool)))
    assert average_precision(np.arange(4.0), np.ones(4, bool)) == 1
    assert np.isnan(roc_curve(np.arange(4.0), np.zeros(4, bool))[1]).all()
    assert np.isnan(accuracy([], [], 0.5))


@pytest.mark.parametrize(
    ("scores", "positives", "words"),
    [
        ([1.0, 2.0], [True], "differ"),
        ([1.0, float("nan")], [True, False], "1 of 2 scores are not finite"),
        ([1.0, 2.0], [0, 2], "other than 0 and 1"),
    ],
)
def test_wrong_input_is_named(scores: list, positives: list, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        roc_auc(scores, positives)


def test_macro_auc_refuses_targets_out_of_range() -> None:
    with pytest.raises(UsageError, match="2 classes"):
        macro_auc(np.zeros((3, 2)), np.asarray([0, 1, 2]))
    with pytest.raises(UsageError, match="integers"):
        macro_auc(np.zeros((3, 2)), np.asarray([0.0, 1.0, 1.0]))
