"""Nearest-neighbour votes by cosine similarity: the probe that trains nothing (spec section 2, telemetry)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError
from scoutview.metrics.neighbours import unit_vectors

Floats = NDArray[np.float64]
_AT_ONCE = 1 << 23  # similarities held at a time: 64 MB


def knn_scores(
    bank: ArrayLike,
    bank_targets: ArrayLike,
    queries: ArrayLike,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Floats:
    """Share of the neighbours' votes that each class gets, a vote weighing exp(cosine / temperature).

    `bank` [n, features]; `bank_targets` [n], integers in [0, classes); `queries` [m, features]. Returns
    [m, classes], rows summing to 1. `k` is taken as n where the bank is smaller. A vector of zeros has
    cosine 0 to everything. Raises `UsageError` for an empty bank, differing widths, values that are not
    finite, or targets out of range.
    """
    bank, queries = np.asarray(bank, dtype=np.float64), np.asarray(queries, dtype=np.float64)
    targets = np.asarray(bank_targets)
    _check(bank, targets, queries, classes, k, temperature)
    k = min(k, len(bank))
    bank, queries = unit_vectors(bank), unit_vectors(queries)
    scores = np.zeros((len(queries), classes))
    block = max(1, _AT_ONCE // len(bank))
    for begin in range(0, len(queries), block):
        similarity = queries[begin : begin + block] @ bank.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        close = np.take_along_axis(similarity, nearest, axis=1)
        # The largest vote is 1: the shift cancels in the share, and exp(1 / 0.001) would overflow.
        votes = np.exp((close - close.max(axis=1, keepdims=True)) / temperature)
        rows = np.arange(begin, begin + len(close))[:, None]
        np.add.at(scores, (rows, targets[nearest]), votes)
    shares: Floats = scores / scores.sum(axis=1, keepdims=True)
    return shares


def _check(
    bank: Floats, targets: NDArray[np.generic], queries: Floats, classes: int, k: int, temperature: float
) -> None:
    if bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        raise UsageError(
            f"bank {bank.shape} and queries {queries.shape} do not match; give [n, features] and [m, features]"
        )
    if not len(bank):
        raise UsageError("the bank is empty; give at least one labelled image")
    if targets.shape != bank.shape[:1] or not np.issubdtype(targets.dtype, np.integer):
        raise UsageError(
            f"bank targets are {targets.dtype} {targets.shape}; give {len(bank)} integers, one per bank image"
        )
    if not (np.isfinite(bank).all() and np.isfinite(queries).all()):
        raise UsageError("features are not all finite; the encoder that made them has diverged")
    if int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise UsageError(f"bank targets lie outside [0, {classes}); count the classes from 0")
    if k < 1 or not temperature > 0:
        raise UsageError(f"k = {k} and temperature = {temperature}; both must be positive")
