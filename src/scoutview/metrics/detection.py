"""The figures of a detector on a test set: the content of evaluation.json (spec section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoutview.errors import UsageError
from scoutview.metrics.bootstrap import interval, patient_weights
from scoutview.metrics.classification import evaluate_scores, mean_over_classes
from scoutview.metrics.froc import Hits, evaluate_froc, find_hits, froc_score, weighted_sensitivities
from scoutview.metrics.matching import Floats, MatchingRule, make_boxes, match_detections

RULES = (MatchingRule("iou", 0.1), MatchingRule("iou", 0.5), MatchingRule("center_in_box"))


@dataclass(frozen=True)
class ClassBoxes:
    """Boxes of many images and classes: images, classes, scores [box] (of truths 1), corners [box, 4] in px."""

    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: Floats
    corners: Floats

    @classmethod
    def join(
        cls, corners: Sequence[ArrayLike], classes: Sequence[ArrayLike], scores: Sequence[ArrayLike] | None = None
    ) -> ClassBoxes:
        """From lists with one entry per image: corners [box, 4], classes [box], scores [box]."""
        boxes = [np.asarray(value, dtype=np.float64).reshape(-1, 4) for value in corners]
        values = [np.ones(len(own)) for own in boxes] if scores is None else scores
        return cls(
            np.repeat(np.arange(len(boxes)), [len(own) for own in boxes]),
            np.concatenate([np.zeros(0, np.int64), *(np.asarray(value, dtype=np.int64) for value in classes)]),
            np.concatenate([np.zeros(0), *(np.asarray(value, dtype=np.float64) for value in values)]),
            np.concatenate([np.zeros((0, 4)), *boxes]),
        )


def hits_of_class(
    detections: ClassBoxes, truths: ClassBoxes, known: NDArray[np.bool_], number: int, rule: MatchingRule
) -> Hits:
    """The hits of class `number` on the images where it is known, which are counted anew from 0.

    known [image, class]. Raises `UsageError` if it is known of no image.
    """
    here = known[:, number]
    place = np.cumsum(here) - 1
    own, true = (_of_class(boxes, here, number) for boxes in (detections, truths))
    return find_hits(
        place[detections.images[own]],
        detections.corners[own],
        detections.scores[own],
        place[truths.images[true]],
        truths.corners[true],
        int(here.sum()),
        rule,
    )


def case_table(detections: ClassBoxes, truths: ClassBoxes, known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(scores, targets), each [image, class]: of the best box, 0 if there is none; 1, 0, or NaN where not known."""
    scores, targets = np.zeros(known.shape), np.where(known, 0.0, np.nan)
    np.maximum.at(scores, (detections.images, detections.classes), detections.scores)
    targets[truths.images, truths.classes] = 1.0
    return scores, targets


def case_errors(
    detections: ClassBoxes, truths: ClassBoxes, known: NDArray[np.bool_], rule: MatchingRule = RULES[0]
) -> Floats:
    """How wrong each image is [image], in [0, 1], for an order of pictures, worst first.

    The largest of: 1 - the score of the hit of each truth (1 without a hit), and the scores of false boxes.
    """
    errors = np.zeros(len(known))
    for number in range(known.shape[1]):
        here = known[:, number]
        own, true = (_of_class(boxes, here, number) for boxes in (detections, truths))
        scores, images = detections.scores[own], truths.images[true]
        boxes = make_boxes(detections.images[own], detections.corners[own], len(known), "detections")
        found, repeat = match_detections(
            boxes, scores, make_boxes(images, truths.corners[true], len(known), "truths"), rule
        )
        missed = np.ones(len(images))
        missed[found[found >= 0]] = 1 - scores[found >= 0]
        np.maximum.at(errors, images, missed)
        false = (found < 0) & ~repeat
        np.maximum.at(errors, boxes.images[false], scores[false])
    return errors


def evaluate_detections(
    detections: ClassBoxes,
    truths: ClassBoxes,
    known: NDArray[np.bool_],
    patients: ArrayLike,
    class_names: Sequence[str],
    rounds: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """AUC and AP of cases and fROC of boxes, with 95% intervals over patients, per class and as the mean over classes.

    known [image, class]: elsewhere the class counts nowhere. `patients` [image] keys. A case is an image and scores as
    its best box; fROC is by IoU 0.1 and 0.5 and by the centre in the box, `froc_...` its mean sensitivity.

    Returns `n_images`, `n_patients`, `metrics` {auc, ap, froc_iou_0.1, froc_iou_0.5, froc_center_in_box}, `per_class`
    {name: {auc, ap, positives, images, froc: {rule: as `evaluate_froc`}}} and `curves` as `evaluate_scores`.
    Raises `UsageError` where a class is known of no image.
    """
    keys = np.asarray(patients)
    absent = [name for number, name in enumerate(class_names) if not known[:, number].any()]
    if absent:
        raise UsageError(f"class {absent[0]} is known of no image; leave it out, or add images with it")
    scores, targets = case_table(detections, truths, known)
    content = evaluate_scores(scores, targets, keys, class_names, rounds=rounds, seed=seed)
    del content["metrics"]["accuracy"]  # a box's score is no probability: no threshold is its natural one
    for entry in content["per_class"].values():
        entry["froc"] = {}
    for rule in RULES:
        hits = [hits_of_class(detections, truths, known, number, rule) for number in range(len(class_names))]
        for number, name in enumerate(class_names):
            entry = evaluate_froc(hits[number], keys[known[:, number]], rounds, seed)
            content["per_class"][name]["froc"][str(rule)] = entry
        draws = [mean_froc_draws(hits, known, weights) for weights in patient_weights(keys, rounds, seed)]
        mean = interval(mean_froc(hits), np.concatenate(draws), keys)
        content["metrics"][froc_name(rule)] = mean.as_dict()
    return content


def mean_froc(hits: Sequence[Hits]) -> float:
    """Mean of `froc_score` over the classes that have a truth, NaN where none has."""
    return float(mean_over_classes(np.array([[froc_score(own) for own in hits]]))[0])


def mean_froc_draws(hits: Sequence[Hits], known: NDArray[np.bool_], weights: Floats) -> Floats:
    """`mean_froc` [round] under `weights` [round, image]: how often an image counts. known [image, class]."""
    return mean_over_classes(weighted_scores(hits, known, weights))


def weighted_scores(hits: Sequence[Hits], known: NDArray[np.bool_], weights: Floats) -> Floats:
    """`froc_score` of each class [round, class] under `weights` [round, image]; known [image, class]."""
    columns = [weighted_sensitivities(own, weights[:, known[:, number]]).mean(1) for number, own in enumerate(hits)]
    return np.stack(columns, 1)


def froc_name(rule: MatchingRule) -> str:
    """The name of a mean fROC sensitivity among the metrics of evaluation.json."""
    return f"froc_{str(rule).replace(' ', '_')}"


def _of_class(boxes: ClassBoxes, here: NDArray[np.bool_], number: int) -> NDArray[np.bool_]:
    """Flags [box]: of the class, in an image where it is known."""
    flags: NDArray[np.bool_] = (boxes.classes == number) & here[boxes.images]
    return flags
