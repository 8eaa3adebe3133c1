"""Do probabilities mean what they say? Reliability, expected calibration error, Brier score.

Statistics of `patient_bootstrap`: it gives them their intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError
from scoutview.metrics.auc import checked

Floats = NDArray[np.float64]
BINS = 15
"""As in Guo et al. 2017."""


@dataclass(frozen=True)
class Reliability:
    """The points of a reliability diagram, one per bin of equal width; NaN where a bin holds no image.

    images, mean_probability, observed [bin]: the share of positives among the images of the bin.
    """

    images: NDArray[np.intp]
    mean_probability: Floats
    observed: Floats


def reliability(probabilities: ArrayLike, positives: ArrayLike, bins: int = BINS) -> Reliability:
    """Images by predicted probability in `bins` bins of equal width, each with its upper border, the first with 0.

    `probabilities` [n] in [0, 1]; `positives` [n], bool or 0/1. Raises `UsageError` for other shapes or values.
    """
    probabilities, positives = _checked(probabilities, positives)
    place = _bins(probabilities, bins)
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            images=images,
            mean_probability=np.bincount(place, probabilities, bins) / images,
            observed=np.bincount(place, positives, bins) / images,
        )


def expected_calibration_error(probabilities: ArrayLike, positives: ArrayLike, bins: int = BINS) -> float:
    """Mean over images of |mean probability - observed share| of their bin: [0, 1], NaN without images.

    Few images in a bin make it too large, also for a perfect model: compare it between models on the same images.
    """
    probabilities, positives = _checked(probabilities, positives)
    return float(weighted_calibration(probabilities, positives, np.ones((1, len(probabilities))), bins)[1][0])


def brier_score(probabilities: ArrayLike, positives: ArrayLike) -> float:
    """Mean of (probability - positive)^2 (Brier 1950): [0, 1], 0 is perfect, NaN without images."""
    probabilities, positives = _checked(probabilities, positives)
    return float(weighted_calibration(probabilities, positives, np.ones((1, len(probabilities))))[0][0])


def weighted_calibration(
    probabilities: Floats, positives: NDArray[np.bool_], weights: Floats, bins: int = BINS
) -> tuple[Floats, Floats]:
    """(`brier_score`, `expected_calibration_error`), each [rounds], for each row of `weights` [rounds, n].

    A weight (>= 0) is how often an image counts.
    """
    place = _bins(probabilities, bins)
    inside = np.zeros((len(probabilities), bins))
    inside[np.arange(len(probabilities)), place] = 1.0
    total = weights.sum(axis=1)
    # |mean probability - observed share| times the images of a bin is |sum of probability - positive|.
    gaps = np.abs(weights @ (inside * (probabilities - positives)[:, None])).sum(axis=1)
    squares = weights @ (probabilities - positives) ** 2
    with np.errstate(invalid="ignore"):
        return squares / total, gaps / total


def _bins(probabilities: Floats, bins: int) -> NDArray[np.intp]:
    if bins < 1:
        raise UsageError(f"{bins} bins; give at least one")
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities, side="left")


def _checked(probabilities: ArrayLike, positives: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    probabilities, positives = checked(probabilities, positives)
    if len(probabilities) and not 0 <= probabilities.min() <= probabilities.max() <= 1:
        raise UsageError(
            f"probabilities lie in [{probabilities.min():g}, {probabilities.max():g}]; "
            "give values in [0, 1], a sigmoid or softmax of the logits"
        )
    return probabilities, positives
