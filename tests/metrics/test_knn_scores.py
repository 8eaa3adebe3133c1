"""Votes of neighbours against a loop over every query and bank image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoutview.errors import UsageError
from scoutview.metrics import knn, knn_scores


def brute(bank: np.ndarray, targets: np.ndarray, query: np.ndarray, classes: int, k: int, t: float) -> list:
    cosines = [float(row @ query) / (math.dist(row, 0 * row) * math.dist(query, 0 * query) or 1.0) for row in bank]
    nearest = sorted(range(len(bank)), key=lambda index: -cosines[index])[:k]
    votes = [sum(math.exp(cosines[i] / t) for i in nearest if targets[i] == c) for c in range(classes)]
    return [vote / sum(votes) for vote in votes]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 30), st.sampled_from([0.07, 0.5]))
def test_equals_brute_force(seed: int, n: int, k: int, temperature: float) -> None:
    generator = np.random.default_rng(seed)
    bank, queries = generator.normal(size=(n, 6)), generator.normal(size=(9, 6))
    targets = generator.integers(3, size=n)
    found = knn_scores(bank, targets, queries, 3, k, temperature)
    expected = [brute(bank, targets, query, 3, k, temperature) for query in queries]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    bank, queries = generator.normal(size=(40, 5)), generator.normal(size=(33, 5))
    targets = generator.integers(4, size=40)
    whole = knn_scores(bank, targets, queries, 4)
    monkeypatch.setattr(knn, "_AT_ONCE", 120)
    np.testing.assert_allclose(knn_scores(bank, targets, queries, 4), whole)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e200])
def test_length_of_features_does_not_matter(scale: float) -> None:
    generator = np.random.default_rng(1)
    bank, queries = generator.normal(size=(30, 5)), generator.normal(size=(8, 5))
    targets = generator.integers(2, size=30)
    np.testing.assert_allclose(
        knn_scores(bank * scale, targets, queries * scale, 2), knn_scores(bank, targets, queries, 2)
    )


def test_zero_vectors_give_shares() -> None:
    bank = np.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    found = knn_scores(bank, np.asarray([0, 1, 1]), np.zeros((2, 2)), 2, k=3)
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3]] * 2)


def test_tiny_temperature_does_not_overflow() -> None:
    found = knn_scores(np.eye(3), np.arange(3), np.eye(3), 3, k=3, temperature=1e-4)
    np.testing.assert_allclose(found, np.eye(3), atol=1e-12)


def test_no_queries() -> None:
    assert knn_scores(np.eye(3), np.arange(3), np.zeros((0, 3)), 3).shape == (0, 3)


def test_wrong_input_is_named() -> None:
    eye, targets = np.eye(3), np.arange(3)
    with pytest.raises(UsageError, match="empty"):
        knn_scores(np.zeros((0, 3)), np.zeros(0, int), eye, 3)
    with pytest.raises(UsageError, match="do not match"):
        knn_scores(eye, targets, np.eye(2), 3)
    with pytest.raises(UsageError, match=r"outside \[0, 2\)"):
        knn_scores(eye, targets, eye, 2)
    with pytest.raises(UsageError, match="not all finite"):
        knn_scores(eye * np.nan, targets, eye, 3)
    with pytest.raises(UsageError, match="integers"):
        knn_scores(eye, targets * 1.0, eye, 3)
    with pytest.raises(UsageError, match="must be positive"):
        knn_scores(eye, targets, eye, 3, k=0)
