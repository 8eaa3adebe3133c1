"""How well masks agree: the Dice coefficient over all images together, with its interval over patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.metrics.bootstrap import Interval, interval, patient_weights

Floats = NDArray[np.float64]


def overlaps(found: ArrayLike, truth: ArrayLike) -> Floats:
    """[image, 3]: pixels in both, in `found`, in `truth` [image, row, column], both cut at 0.5."""
    ours, theirs = np.asarray(found) >= 0.5, np.asarray(truth) >= 0.5
    return np.stack([part.sum((1, 2)) for part in (ours & theirs, ours, theirs)], axis=1).astype(np.float64)


def dice(counts: ArrayLike) -> Floats:
    """2 |A and B| / (|A| + |B|) of counts [..., 3] as `overlaps` gives them; NaN where both masks are empty."""
    both, found, truth = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    total = found + truth
    result: Floats = np.divide(2 * both, total, out=np.full(total.shape, np.nan), where=total > 0)
    return result


def dice_interval(counts: ArrayLike, patients: ArrayLike, rounds: int = 2000, seed: int = 0) -> Interval:
    """Dice over all images, counts [image, 3], with its 95% interval under resampling of patients [image]."""
    counts, keys = np.asarray(counts, dtype=np.float64), np.asarray(patients)
    draws = np.concatenate([dice(weights @ counts) for weights in patient_weights(keys, rounds, seed)])
    return interval(float(dice(counts.sum(0))), draws, keys)
