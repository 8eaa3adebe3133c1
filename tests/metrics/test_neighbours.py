"""Neighbours and nearest centres against loops in float64, across the blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scoutview.errors import UsageError
from scoutview.metrics import nearest_centres, nearest_neighbours, unit_vectors
from scoutview.metrics import neighbours as module


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    dot = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    lengths = math.sqrt(sum(float(a) ** 2 for a in one)) * math.sqrt(sum(float(b) ** 2 for b in other))
    return dot / lengths if lengths else 0.0


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((43, 6)).astype(np.float32)


def test_neighbours_equal_brute_force(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 5 * len(vectors))  # nine blocks, the last one short
    places, cosines = nearest_neighbours(vectors, 7)
    for i, vector in enumerate(vectors):
        others = [(cosine(vector, other), j) for j, other in enumerate(vectors) if j != i]
        others.sort(key=lambda pair: -pair[0])
        assert places[i].tolist() == [j for _, j in others[:7]]
        np.testing.assert_allclose(cosines[i], [value for value, _ in others[:7]], atol=1e-12)


def test_neighbours_of_equal_zero_and_few_vectors() -> None:
    same = np.ones((4, 3))
    places, cosines = nearest_neighbours(same, 3)
    assert [sorted(row) for row in places.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    np.testing.assert_allclose(cosines, 1.0)
    places, cosines = nearest_neighbours(np.array([[0.0, 0.0], [1e-200, 0.0], [1e200, 1e199]]), 12)
    assert places.shape == (3, 2)
    assert cosines[0].tolist() == [0.0, 0.0]
    assert cosines[1, 0] == pytest.approx(1 / math.sqrt(1.01))
    assert nearest_neighbours(np.ones((1, 3)), 5)[0].shape == (1, 0)


def test_nearest_centres_equal_an_argmax_loop(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    centres = np.random.default_rng(1).standard_normal((5, 6))
    monkeypatch.setattr(module, "_AT_ONCE", 4 * len(centres))
    numbers, cosines = nearest_centres(vectors, centres)
    for i, vector in enumerate(vectors):
        scores = [cosine(vector, centre) for centre in centres]
        assert numbers[i] == scores.index(max(scores))
        assert cosines[i] == pytest.approx(max(scores))


def test_wrong_vectors_are_named() -> None:
    with pytest.raises(UsageError, match="not all finite"):
        unit_vectors(np.array([[np.nan, 1.0]]))
    with pytest.raises(UsageError, match=r"give \[n, features\]"):
        unit_vectors(np.ones(3))
    with pytest.raises(UsageError, match="do not match"):
        nearest_centres(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(UsageError, match="k = 0"):
        nearest_neighbours(np.ones((2, 3)), 0)
