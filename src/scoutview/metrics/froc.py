"""Free-response ROC (spec section 7): which share of the truths is found at how many false positives per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError
from scoutview.metrics.bootstrap import interval, patient_weights
from scoutview.metrics.matching import Floats, MatchingRule, Numbers, make_boxes, match_detections

POINTS = (0.01, 0.05, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which the sensitivity is read; the score is the mean of the nine."""
_CURVE_POINTS = 500  # more cannot be told apart in a picture, and the file stays small


@dataclass(frozen=True)
class Hits:
    """All that a fROC needs to know of a detector: made once by `find_hits`, counted as often as wanted.

    true_images, true_scores [true positive] and false_images, false_scores [false positive], both by falling score;
    truths [image], how many there are; repeats, how many detections hit only truths that were found before.
    """

    true_images: Numbers
    true_scores: Floats
    false_images: Numbers
    false_scores: Floats
    truths: Numbers
    repeats: int


def find_hits(
    detection_images: ArrayLike,
    detection_boxes: ArrayLike,
    scores: ArrayLike,
    truth_images: ArrayLike,
    truth_boxes: ArrayLike,
    number_of_images: int,
    rule: MatchingRule,
    strict: bool = False,
) -> Hits:
    """Match the detections of one class to its truths.

    `detection_images` [d] and `truth_images` [t] are numbers in [0, number_of_images); images without truths and
    without detections count as well. Boxes are [d, 4] and [t, 4]: left, top, right, bottom; `scores` [d], finite.
    A repeat hit on a truth that was found counts as nothing, with `strict` as a false positive. See
    `match_detections` for the order. Raises `UsageError` for other shapes or values.
    """
    if number_of_images < 1:
        raise UsageError("there are no images; give at least one")
    detections = make_boxes(detection_images, detection_boxes, number_of_images, "detections")
    truths = make_boxes(truth_images, truth_boxes, number_of_images, "truths")
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(detections),) or not np.isfinite(values).all():
        raise UsageError(f"scores {values.shape} of {len(detections)} detections; give one finite number for each")
    found, repeat = match_detections(detections, values, truths, rule)
    order = np.argsort(-values, kind="stable")
    true = order[(found >= 0)[order]]
    false = order[((found < 0) & (strict | ~repeat))[order]]
    return Hits(
        true_images=detections.images[true],
        true_scores=values[true],
        false_images=detections.images[false],
        false_scores=values[false],
        truths=np.bincount(truths.images, minlength=number_of_images).astype(np.intp),
        repeats=int(repeat.sum()),
    )


def froc_curve(hits: Hits) -> tuple[Floats, Floats, Floats]:
    """(false positives per image, sensitivity, score), each [points]: one point per distinct score, after (0, 0, inf).

    Without truths the sensitivity is NaN throughout.
    """
    thresholds = np.unique(np.concatenate([hits.true_scores, hits.false_scores]))[::-1]
    false = np.searchsorted(-hits.false_scores, -thresholds, side="right")
    true = np.searchsorted(-hits.true_scores, -thresholds, side="right")
    total = hits.truths.sum()
    sensitivity = np.concatenate([[0.0], true / total]) if total else np.full(len(true) + 1, np.nan)
    per_image = np.concatenate([[0.0], false / len(hits.truths)])
    return per_image, sensitivity, np.concatenate([[np.inf], thresholds])


def froc_sensitivities(hits: Hits, points: Sequence[float] = POINTS) -> Floats:
    """The largest sensitivity with at most x false positives per image, for each x of `points`: [points].

    No interpolation: it is that of a threshold which exists. NaN without truths.
    """
    sensitivities: Floats = weighted_sensitivities(hits, np.ones((1, len(hits.truths))), points)[0]
    return sensitivities


def froc_score(hits: Hits) -> float:
    """Mean of `froc_sensitivities` over the nine points: [0, 1], NaN without truths."""
    return float(froc_sensitivities(hits).mean())


def weighted_sensitivities(hits: Hits, weights: Floats, points: Sequence[float] = POINTS) -> Floats:
    """`froc_sensitivities` for each row of `weights` [rounds, images], whole numbers: how often an image counts.

    Returns [rounds, points], NaN where no truth or no image counts.
    """
    if not len(points) or min(points) < 0:
        raise UsageError(f"false positives per image {tuple(points)}; give at least one, none below 0")
    wanted = np.asarray(points, dtype=np.float64)
    # If the k first false positives are allowed, so are the true positives above the score of the next one; those
    # of equal score are not, for a threshold takes all of a score or none.
    above = np.searchsorted(-hits.true_scores, -hits.false_scores, side="left")
    above = np.append(above, len(hits.true_scores))
    sensitivities = np.full((len(weights), len(wanted)), np.nan)
    for row, counts in zip(sensitivities, weights, strict=True):
        images, truths = counts.sum(), counts @ hits.truths
        if not truths:
            continue
        false = np.cumsum(counts[hits.false_images])
        true = np.concatenate([[0.0], np.cumsum(counts[hits.true_images])])
        row[:] = true[above[np.searchsorted(false, _allowed(wanted, images), side="right")]] / truths
    return sensitivities


def _allowed(points: Floats, images: float) -> Floats:
    """The largest whole number n with n / images <= x, for each x of `points`.

    x * images may round to just below the whole number that the ratio is equal to.
    """
    candidates = np.floor(points * images) + 1
    return candidates - (candidates / images > points)


def evaluate_froc(hits: Hits, patients: ArrayLike, rounds: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The fROC of one class with 95% intervals over patients: the content of evaluation.json.

    `patients` [image] keys. Returns `score`, `sensitivities` (one per point, with `false_positives_per_image`),
    `images`, `truths`, `true_positives`, `false_positives`, `repeats`, `note` and `curve`
    {false_positives_per_image, sensitivity}, at most 500 points. Raises `UsageError` for another number of keys.
    """
    keys = np.asarray(patients)
    images = len(hits.truths)
    if keys.shape != (images,):
        raise UsageError(f"{images} images and patient keys of shape {keys.shape}; give one key per image")
    whole = froc_sensitivities(hits)
    draws = froc_draws(hits, keys, rounds, seed)
    per_image, sensitivity, _ = froc_curve(hits)
    shown = np.unique(np.linspace(0, len(per_image) - 1, min(len(per_image), _CURVE_POINTS)).round().astype(np.intp))
    return {
        "score": interval(float(whole.mean()), draws.mean(axis=1), keys).as_dict(),
        "sensitivities": [
            {"false_positives_per_image": point} | interval(whole[place], draws[:, place], keys).as_dict()
            for place, point in enumerate(POINTS)
        ],
        "images": images,
        "truths": int(hits.truths.sum()),
        "true_positives": len(hits.true_scores),
        "false_positives": len(hits.false_scores),
        "repeats": hits.repeats,
        "note": froc_note(images),
        "curve": {
            "false_positives_per_image": per_image[shown].tolist(),
            "sensitivity": sensitivity[shown].tolist(),
        },
    }


def froc_draws(hits: Hits, patients: NDArray[Any], rounds: int, seed: int) -> Floats:
    """`froc_sensitivities` [rounds, points] of bootstrap resamples of patients; the same seed draws the same ones."""
    blocks = [weighted_sensitivities(hits, block) for block in patient_weights(patients, rounds, seed)]
    return np.concatenate(blocks) if blocks else np.zeros((0, len(POINTS)))


def froc_note(images: int) -> str:
    """What must be said beside a fROC of few images: which points allow no false positive at all; "" if none."""
    none = [point for point in POINTS if 1 / images > point]
    if not none:
        return ""
    listed = ", ".join(f"{point:g}" for point in none)
    return f"with {images} images, {listed} false positives per image (below 1/{images}) mean none at all"
