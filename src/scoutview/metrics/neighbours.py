"""Exact nearest neighbours by cosine, and the nearest of some centres: brute force in float64, block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_AT_ONCE = 1 << 23  # similarities held at a time: 64 MB


def unit_vectors(vectors: ArrayLike) -> Floats:
    """`vectors` [n, features] in float64, of length 1; those of zeros stay.

    Raises:
        UsageError: for other shapes, or values that are not finite.
    """
    values = np.asarray(vectors, dtype=np.float64)
    if values.ndim != 2:
        raise UsageError(f"vectors are {values.shape}; give [n, features]")
    if not np.isfinite(values).all():
        raise UsageError("features are not all finite; the encoder that made them has diverged")
    # Scaling by the largest entry first keeps the squares of tiny and huge features representable.
    largest = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
    scaled = values / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit: Floats = scaled / np.where(length > 0, length, 1.0)
    return unit


def nearest_neighbours(vectors: ArrayLike, k: int) -> tuple[Integers, Floats]:
    """The k others with the largest cosine to each of `vectors` [n, features], the nearest first.

    Returns their places and cosines, both [n, min(k, n - 1)]; equal ones stand in the order of their places. A vector
    of zeros has cosine 0 to everything. Raises `UsageError` as `unit_vectors` does, or if k is not positive.
    """
    if k < 1:
        raise UsageError(f"k = {k}; it must be positive")
    unit = unit_vectors(vectors)
    count = len(unit)
    k = max(min(k, count - 1), 0)
    places = np.zeros((count, k), dtype=np.int64)
    cosines = np.zeros((count, k))
    block = max(1, _AT_ONCE // max(count, 1))
    for begin in range(0, count if k else 0, block):
        similarity = unit[begin : begin + block] @ unit.T
        own = np.arange(len(similarity))
        similarity[own, begin + own] = -np.inf
        found = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
        close = np.take_along_axis(similarity, found, axis=1)
        order = np.argsort(-close, axis=1, kind="stable")
        places[begin : begin + block] = np.take_along_axis(found, order, axis=1)
        cosines[begin : begin + block] = np.take_along_axis(close, order, axis=1)
    return places, cosines


def nearest_centres(vectors: ArrayLike, centres: ArrayLike) -> tuple[Integers, Floats]:
    """(number, cosine), each [n], of the centre [K, features] with the largest cosine to each of `vectors`.

    Raises `UsageError` as `unit_vectors` does, for differing widths, or without a centre.
    """
    unit, middle = unit_vectors(vectors), unit_vectors(centres)
    if not len(middle) or unit.shape[1] != middle.shape[1]:
        raise UsageError(f"vectors {unit.shape} and centres {middle.shape} do not match; give as many features")
    numbers = np.zeros(len(unit), dtype=np.int64)
    cosines = np.zeros(len(unit))
    block = max(1, _AT_ONCE // len(middle))
    for begin in range(0, len(unit), block):
        similarity = unit[begin : begin + block] @ middle.T
        numbers[begin : begin + block] = similarity.argmax(axis=1)
        cosines[begin : begin + block] = similarity.max(axis=1)
    return numbers, cosines
