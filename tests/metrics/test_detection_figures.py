"""Figures of a detector with unknown classes: against those of each class alone, and errors against a plain search."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from scoutview.errors import UsageError
from scoutview.metrics import ClassBoxes, case_errors, case_table, evaluate_detections, evaluate_froc, find_hits
from scoutview.metrics.detection import RULES, hits_of_class, mean_froc

IMAGES, CLASSES = 30, 3


def random_boxes(generator: np.random.Generator, most: int, scored: bool) -> ClassBoxes:
    counts = generator.integers(0, most + 1, IMAGES)
    corners = [generator.integers(0, 12, (count, 2)) for count in counts]
    boxes = [np.concatenate([own, own + generator.integers(3, 12, own.shape)], 1) for own in corners]
    scores = [generator.random(count) for count in counts] if scored else None
    return ClassBoxes.join(boxes, [generator.integers(0, CLASSES, count) for count in counts], scores)


def scene(seed: int) -> tuple[ClassBoxes, ClassBoxes, np.ndarray, np.ndarray]:
    """(detections, truths, known, patients); of an unknown class there is no truth."""
    generator = np.random.default_rng(seed)
    detections, truths = random_boxes(generator, 6, True), random_boxes(generator, 3, False)
    known = generator.random((IMAGES, CLASSES)) < 0.7
    kept = known[truths.images, truths.classes]
    truths = ClassBoxes(truths.images[kept], truths.classes[kept], truths.scores[kept], truths.corners[kept])
    return detections, truths, known, generator.integers(0, 12, IMAGES)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - common)


@pytest.mark.parametrize("seed", range(3))
def test_every_class_counts_on_the_images_where_it_is_known(seed: int) -> None:
    detections, truths, known, patients = scene(seed)
    content = evaluate_detections(detections, truths, known, patients, ["a", "b", "c"], rounds=50)
    values = []
    for number, name in enumerate("abc"):
        here = np.flatnonzero(known[:, number])
        place = {int(image): count for count, image in enumerate(here)}
        found = [k for k in range(len(detections.images)) if detections.classes[k] == number]
        found = [k for k in found if int(detections.images[k]) in place]
        true = [k for k in range(len(truths.images)) if truths.classes[k] == number]
        scores, targets = np.zeros(len(here)), np.zeros(len(here))
        for k in found:
            at = place[int(detections.images[k])]
            scores[at] = max(scores[at], detections.scores[k])
        for k in true:
            targets[place[int(truths.images[k])]] = 1
        entry = content["per_class"][name]
        assert entry["auc"]["value"] == pytest.approx(roc_auc_score(targets, scores))
        assert entry["ap"]["value"] == pytest.approx(average_precision_score(targets, scores))
        for rule in RULES:
            hits = find_hits(
                np.array([place[int(detections.images[k])] for k in found], dtype=int),
                detections.corners[found],
                detections.scores[found],
                np.array([place[int(truths.images[k])] for k in true], dtype=int),
                truths.corners[true],
                len(here),
                rule,
            )
            assert entry["froc"][str(rule)] == evaluate_froc(hits, patients[here], rounds=50)
        values.append(entry["froc"]["iou 0.1"]["score"]["value"])
    mean = content["metrics"]["froc_iou_0.1"]
    assert mean["value"] == pytest.approx(np.mean(values))
    assert mean["low"] <= mean["value"] <= mean["high"]
    assert "accuracy" not in content["metrics"]


def test_the_interval_of_the_mean_is_that_of_repeated_data() -> None:
    """Of patients with one image each: every resample as a data set of its own, counted from the start."""
    detections, truths, known, _ = scene(1)
    patients = np.arange(IMAGES)
    content = evaluate_detections(detections, truths, known, patients, ["a", "b", "c"], rounds=40, seed=5)
    generator, means = np.random.default_rng(5), []
    for row in generator.integers(IMAGES, size=(40, IMAGES)):
        repeated = [
            ClassBoxes(
                np.concatenate([np.full(int((boxes.images == image).sum()), at) for at, image in enumerate(row)]),
                np.concatenate([boxes.classes[boxes.images == image] for image in row]),
                np.concatenate([boxes.scores[boxes.images == image] for image in row]),
                np.concatenate([boxes.corners[boxes.images == image] for image in row]),
            )
            for boxes in (detections, truths)
        ]
        hits = [hits_of_class(repeated[0], repeated[1], known[row], number, RULES[0]) for number in range(CLASSES)]
        means.append(mean_froc(hits))
    low, high = np.quantile(means, [0.025, 0.975])
    assert content["metrics"]["froc_iou_0.1"]["low"] == pytest.approx(low)
    assert content["metrics"]["froc_iou_0.1"]["high"] == pytest.approx(high)


@pytest.mark.parametrize("seed", range(3))
def test_errors_equal_a_plain_search(seed: int) -> None:
    detections, truths, known, _ = scene(seed)
    expected = np.zeros(IMAGES)
    for image in range(IMAGES):
        for number in np.flatnonzero(known[image]):
            own = [k for k in range(len(detections.images)) if detections.images[k] == image]
            own = sorted((k for k in own if detections.classes[k] == number), key=lambda k: -detections.scores[k])
            free = [k for k in range(len(truths.images)) if truths.images[k] == image and truths.classes[k] == number]
            everything = list(free)
            for k in own:
                over = {t: overlap(detections.corners[k], truths.corners[t]) for t in everything}
                hit = [t for t in free if over[t] >= 0.1]
                if hit:
                    free.remove(max(hit, key=lambda t: over[t]))
                    expected[image] = max(expected[image], 1 - detections.scores[k])
                elif all(value < 0.1 for value in over.values()):
                    expected[image] = max(expected[image], detections.scores[k])
            if free:
                expected[image] = 1.0
    np.testing.assert_allclose(case_errors(detections, truths, known), expected)


def test_a_class_that_is_known_of_no_image_is_refused() -> None:
    detections, truths, known, patients = scene(0)
    kept = truths.classes != 1
    truths = ClassBoxes(truths.images[kept], truths.classes[kept], truths.scores[kept], truths.corners[kept])
    known[:, 1] = False
    with pytest.raises(UsageError, match="class b is known of no image"):
        evaluate_detections(detections, truths, known, patients, ["a", "b", "c"], rounds=5)
    scores, targets = case_table(detections, truths, known)
    assert np.isnan(targets[:, 1]).all()
    assert (scores >= 0).all()
