"""Paired tests: against DeLong's variance of two areas, the exact null, and data whose patients are repeated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scoutview.errors import UsageError
from scoutview.metrics import MatchingRule, find_hits, froc_score, froc_test, paired_difference, paired_test, roc_auc
from scoutview.metrics.froc import Hits


def delong(a: np.ndarray, b: np.ndarray, positives: np.ndarray) -> tuple[float, float]:
    """(difference of the areas, its standard error) after DeLong et al. 1988, Eq. 3 to 6, pair by pair."""
    placements = []
    for scores in (a, b):
        up, down = scores[positives], scores[~positives]
        kernel = (up[:, None] > down[None]) + 0.5 * (up[:, None] == down[None])
        placements.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    by_positive = np.cov([placements[0][0], placements[1][0]])
    by_negative = np.cov([placements[0][1], placements[1][1]])
    covariance = by_positive / positives.sum() + by_negative / (~positives).sum()
    difference = placements[0][0].mean() - placements[1][0].mean()
    return float(difference), math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


def two_models(seed: int, better: float, n: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two models that share half of their noise, the first a little better."""
    generator = np.random.default_rng(seed)
    positives = np.arange(n) % 3 == 0
    shared = generator.normal(size=n)
    a = shared + generator.normal(size=n) + positives * (1 + better)
    return a, shared + generator.normal(size=n) + positives, positives


@pytest.mark.parametrize(("seed", "better"), [(0, 0.0), (1, 0.2), (2, 0.4), (3, 0.8)])
def test_agrees_with_delong(seed: int, better: float) -> None:
    a, b, positives = two_models(seed, better)
    difference, error = delong(a, b, positives)
    found = paired_test(roc_auc, (a, positives), (b, positives), np.arange(len(a)), rounds=800)
    assert found.difference.value == pytest.approx(difference)
    width = stats.norm.ppf(0.975) * error
    assert found.difference.low == pytest.approx(difference - width, abs=0.3 * width)
    assert found.difference.high == pytest.approx(difference + width, abs=0.3 * width)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(difference) / error), abs=0.06)


def test_no_difference_is_found_five_times_in_a_hundred() -> None:
    generator = np.random.default_rng(4)
    found = 0
    for trial in range(400):
        a, b = generator.normal(size=(2, 60))
        found += paired_test(np.mean, [a], [b], np.arange(60), rounds=120, seed=trial).p < 0.05
    assert 0.02 <= found / 400 <= 0.09


def test_repeated_images_of_a_patient_prove_nothing_more() -> None:
    a, b, positives = two_models(5, 0.3, n=90)
    once = paired_test(roc_auc, (a, positives), (b, positives), np.arange(90), rounds=300)
    five = [np.repeat(array, 5) for array in (a, b, positives, np.arange(90))]
    again = paired_test(roc_auc, (five[0], five[2]), (five[1], five[2]), five[3], rounds=300)
    assert again.p == once.p
    assert again.difference.low == pytest.approx(once.difference.low)


def test_the_p_value_counts_resamples() -> None:
    generator = np.random.default_rng(6)
    a, b = generator.normal(size=20), generator.normal(size=20) - 0.5
    found = paired_test(np.mean, [a], [b], np.arange(20), rounds=200, seed=3)
    assert found.difference == paired_difference(np.mean, [a], [b], np.arange(20), rounds=200, seed=3)
    draws = []
    resampling = np.random.default_rng(3)
    for _ in range(200):
        rows = resampling.integers(20, size=20)
        draws.append(a[rows].mean() - b[rows].mean())
    rarer = min(sum(draw <= 0 for draw in draws), sum(draw >= 0 for draw in draws))
    assert found.p == pytest.approx(2 * (rarer + 1) / 201)
    assert found.as_dict() == found.difference.as_dict() | {"p": found.p}


def test_edges() -> None:
    values = np.arange(10.0)
    assert paired_test(np.mean, [values], [values], np.arange(10), rounds=50).p == 1
    assert paired_test(np.mean, [values + 1], [values], np.arange(10), rounds=99).p == pytest.approx(2 / 100)
    assert math.isnan(paired_test(np.mean, [values], [values], np.zeros(10), rounds=5).p)


def detector(seed: int, found: float) -> Hits:
    """A detector that finds so many of 40 truths on 60 images, with 80 false positives."""
    generator = np.random.default_rng(seed)
    boxes = np.tile([0.0, 0.0, 1.0, 1.0], (40, 1))
    seen = np.flatnonzero(generator.random(40) < found)
    images = np.concatenate([seen, generator.integers(60, size=80)])
    away = np.concatenate([np.zeros(len(seen)), np.full(80, 5.0)])[:, None]
    scores = generator.random(len(images))
    return find_hits(
        images,
        np.tile([0.0, 0.0, 1.0, 1.0], (len(images), 1)) + away,
        scores,
        np.arange(40),
        boxes,
        60,
        MatchingRule("iou", 0.5),
    )


def test_detectors_are_compared_on_the_same_resamples() -> None:
    good, bad = detector(0, 0.9), detector(1, 0.3)
    patients = np.arange(60) // 2
    found = froc_test(good, bad, patients, rounds=200)
    assert found.difference.value == pytest.approx(froc_score(good) - froc_score(bad))
    assert found.difference.low > 0
    assert found.p < 0.02
    same = froc_test(good, good, patients, rounds=50)
    assert (same.difference.low, same.difference.high, same.p) == (0, 0, 1)
    with pytest.raises(UsageError, match="same images"):
        froc_test(good, Hits(*[getattr(bad, name) for name in list(vars(bad))[:4]], bad.truths[:-1], 0), patients)
