"""fROC against the definition of spec section 7, written as loops: on all small cases, and on random large ones."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoutview.errors import UsageError
from scoutview.files import write_json
from scoutview.metrics import MatchingRule, evaluate_froc, find_hits, froc_curve, froc_score, froc_sensitivities
from scoutview.metrics.bootstrap import patient_weights
from scoutview.metrics.froc import POINTS, Hits, froc_note, weighted_sensitivities
from scoutview.metrics.matching import make_boxes, match_detections

Box = tuple[float, float, float, float]
RULES = (
    MatchingRule("iou", 0.1),
    MatchingRule("iou", 0.5),
    MatchingRule("center_in_box"),
    MatchingRule("center_distance", 0.5),
)


@dataclass(frozen=True)
class Case:
    """Detections (image, box, score) and truths (image, box) on so many images."""

    images: int
    detections: tuple[tuple[int, Box, float], ...]
    truths: tuple[tuple[int, Box], ...]


def overlap_of(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def distance_of(a: Box, b: Box) -> float:
    return math.hypot((a[0] + a[2]) / 2 - (b[0] + b[2]) / 2, (a[1] + a[3]) / 2 - (b[1] + b[3]) / 2)


def matches(detection: Box, truth: Box, rule: MatchingRule) -> bool:
    if rule.name == "iou":
        return overlap_of(detection, truth) >= rule.limit
    if rule.name == "center_distance":
        return distance_of(detection, truth) <= rule.limit
    x, y = (detection[0] + detection[2]) / 2, (detection[1] + detection[3]) / 2
    return truth[0] <= x <= truth[2] and truth[1] <= y <= truth[3]


def brute_counts(case: Case, rule: MatchingRule, strict: bool, threshold: float) -> tuple[int, int]:
    """(true positives, false positives) of the detections scoring at least `threshold`."""
    unmatched = list(range(len(case.truths)))
    true = false = 0
    for score in sorted({score for _, _, score in case.detections if score >= threshold}, reverse=True):
        waiting = [(image, box) for image, box, value in case.detections if value == score]
        while True:
            pairs = [
                (-overlap_of(box, truth), distance_of(box, truth), truth, box, number, place)
                for number, (image, box) in enumerate(waiting)
                for place in unmatched
                for truth_image, truth in [case.truths[place]]
                if truth_image == image and matches(box, truth, rule)
            ]
            if not pairs:
                break
            *_, number, place = min(pairs)
            del waiting[number]
            unmatched.remove(place)
            true += 1
        for image, box in waiting:
            repeat = any(other == image and matches(box, truth, rule) for other, truth in case.truths)
            false += strict or not repeat
    return true, false


def brute_sensitivities(case: Case, rule: MatchingRule, strict: bool, points: Iterable[float] = POINTS) -> list[float]:
    thresholds = [math.inf, *sorted({score for _, _, score in case.detections})]
    counts = [brute_counts(case, rule, strict, threshold) for threshold in thresholds]
    total = len(case.truths)
    return [
        max((true / total if total else math.nan for true, false in counts if false / case.images <= point))
        for point in points
    ]


def hits_of(case: Case, rule: MatchingRule, strict: bool = False) -> Hits:
    return find_hits(
        np.asarray([image for image, _, _ in case.detections], dtype=int),
        np.asarray([box for _, box, _ in case.detections], dtype=float).reshape(-1, 4),
        np.asarray([score for _, _, score in case.detections], dtype=float),
        np.asarray([image for image, _ in case.truths], dtype=int),
        np.asarray([box for _, box in case.truths], dtype=float).reshape(-1, 4),
        case.images,
        rule,
        strict,
    )


def layouts(boxes: list[Box], most: int) -> Iterator[tuple[Box, ...]]:
    """All multisets of at most so many boxes."""
    for number in range(most + 1):
        yield from itertools.combinations_with_replacement(boxes, number)


def scored_layouts(boxes: list[Box], most: int) -> Iterator[tuple[tuple[Box, float], ...]]:
    """All multisets of at most so many boxes with scores 1, 2, ..., in every order and with every tie."""
    for number in range(most + 1):
        for levels in range(min(number, 1), number + 1):
            entries = list(itertools.product(boxes, range(1, levels + 1)))
            for chosen in itertools.combinations_with_replacement(entries, number):
                if len({score for _, score in chosen}) == levels:
                    yield chosen


def spans(*ends: tuple[float, float]) -> list[Box]:
    return [(left, 0.0, right, 1.0) for left, right in ends]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_detection_of_all_small_cases_in_one_image(rule: MatchingRule) -> None:
    """At most 3 truths and 4 detections on four overlapping boxes, all scores and ties: 42,910 cases, one call.

    Each case is an image of one large set, so this also shows that images do not disturb each other.
    """
    boxes = spans((0, 1), (1, 2), (0, 2), (1, 3))
    cases = list(itertools.product(layouts(boxes, 3), scored_layouts(boxes, 4)))
    assert len(cases) == 42_910
    detections = [(number, box, score) for number, (_, found) in enumerate(cases) for box, score in found]
    truths = [(number, box) for number, (present, _) in enumerate(cases) for box in present]
    found, repeat = match_detections(
        make_boxes([image for image, _, _ in detections], [box for _, box, _ in detections], len(cases), "detections"),
        np.asarray([score for _, _, score in detections], dtype=float),
        make_boxes([image for image, _ in truths], [box for _, box in truths], len(cases), "truths"),
        rule,
    )
    images = np.asarray([image for image, _, _ in detections])
    true = np.bincount(images, found >= 0, len(cases))
    repeats = np.bincount(images, repeat, len(cases))
    for number, (present, scored) in enumerate(cases):
        case = Case(1, tuple((0, box, score) for box, score in scored), tuple((0, box) for box in present))
        expected_true, expected_false = brute_counts(case, rule, False, -math.inf)
        assert true[number] == expected_true, case
        assert len(scored) - true[number] - repeats[number] == expected_false, case


@pytest.mark.parametrize("rule", [RULES[0], RULES[2]], ids=str)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("images", [1, 2])
def test_the_curve_of_all_small_cases(rule: MatchingRule, strict: bool, images: int) -> None:
    """At most 3 truths and 4 detections on two boxes, all scores and ties; of two images, boxes go to each in turn."""
    boxes = spans((0, 2), (1, 3))
    points = (0, 0.5, 1, 1.5, 2, 4)
    for present, scored in itertools.product(layouts(boxes, 3), scored_layouts(boxes, 4)):
        case = Case(
            images,
            tuple((number % images, box, score) for number, (box, score) in enumerate(scored)),
            tuple((number % images, box) for number, box in enumerate(present)),
        )
        hits = hits_of(case, rule, strict)
        np.testing.assert_array_equal(froc_sensitivities(hits, points), brute_sensitivities(case, rule, strict, points))
        per_image, sensitivity, scores = froc_curve(hits)
        counts = [brute_counts(case, rule, strict, threshold) for threshold in scores]
        np.testing.assert_array_equal(per_image * images, [false for _, false in counts])
        if present:
            np.testing.assert_allclose(sensitivity * len(present), [true for true, _ in counts], atol=1e-12)
        assert len(scores) == 1 + len({*hits.true_scores, *hits.false_scores})


COORDINATES = st.integers(0, 6)
BOX = st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES).map(
    lambda c: tuple(float(v) for v in (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
)
CASE = st.integers(1, 5).flatmap(
    lambda images: st.builds(
        Case,
        st.just(images),
        st.lists(st.tuples(st.integers(0, images - 1), BOX, st.integers(0, 4).map(float)), max_size=14).map(tuple),
        st.lists(st.tuples(st.integers(0, images - 1), BOX), max_size=8).map(tuple),
    )
)


@settings(max_examples=200, deadline=None)
@given(CASE, st.sampled_from(RULES), st.booleans())
def test_random_cases_equal_brute_force(case: Case, rule: MatchingRule, strict: bool) -> None:
    hits = hits_of(case, rule, strict)
    np.testing.assert_array_equal(froc_sensitivities(hits), brute_sensitivities(case, rule, strict))
    expected = np.mean(brute_sensitivities(case, rule, strict))
    np.testing.assert_allclose(froc_score(hits), expected)


# Boxes of one size on a grid: their overlaps and distances are equal more often than not.
EVEN_BOX = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
    lambda c: (float(c[0]), float(c[1]), c[0] + 2.0, c[1] + 2.0)
)
EVEN_CASE = st.builds(
    Case,
    st.just(1),
    st.lists(st.tuples(st.just(0), EVEN_BOX, st.sampled_from([0.4, 0.6])), max_size=7).map(tuple),
    st.lists(st.tuples(st.just(0), EVEN_BOX), max_size=5).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(EVEN_CASE, st.sampled_from(RULES), st.randoms())
def test_equal_overlaps_and_distances_go_by_coordinates(case: Case, rule: MatchingRule, random: object) -> None:
    expected = brute_counts(case, rule, False, -math.inf)
    detections, truths = list(case.detections), list(case.truths)
    random.shuffle(detections)  # type: ignore[attr-defined]
    random.shuffle(truths)  # type: ignore[attr-defined]
    for each in (case, Case(1, tuple(detections), tuple(truths))):
        hits = hits_of(each, rule)
        assert (len(hits.true_scores), len(hits.false_scores)) == expected


def test_of_pairs_that_are_equal_in_everything_the_coordinates_decide() -> None:
    """A hits both truths as well as B hits the first: with A on the first, B would be a repeat."""
    a, b = spans((1, 3), (-1, 1))
    truths = tuple((0, box) for box in spans((0, 2), (2, 4)))
    for detections in itertools.permutations([(0, a, 0.5), (0, b, 0.5)]):
        for order in itertools.permutations(truths):
            assert len(hits_of(Case(1, detections, order), RULES[0]).true_scores) == 2


@settings(max_examples=100, deadline=None)
@given(CASE, st.sampled_from(RULES), st.randoms())
def test_the_order_of_detections_and_truths_changes_nothing(case: Case, rule: MatchingRule, random: object) -> None:
    detections, truths = list(case.detections), list(case.truths)
    random.shuffle(detections)  # type: ignore[attr-defined]
    random.shuffle(truths)  # type: ignore[attr-defined]
    one, two = hits_of(case, rule), hits_of(Case(case.images, tuple(detections), tuple(truths)), rule)
    for a, b in zip(froc_curve(one), froc_curve(two), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=60, deadline=None)
@given(CASE, st.sampled_from(RULES), st.integers(0, 2**32 - 1))
def test_weights_equal_repeated_images(case: Case, rule: MatchingRule, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 3, case.images)
    copies = [image for image, count in enumerate(counts) for _ in range(count)]
    repeated = Case(
        len(copies),
        tuple((new, b, s) for new, old in enumerate(copies) for image, b, s in case.detections if image == old),
        tuple((new, b) for new, old in enumerate(copies) for image, b in case.truths if image == old),
    )
    found = weighted_sensitivities(hits_of(case, rule), counts[None].astype(float))[0]
    expected = brute_sensitivities(repeated, rule, False) if copies else [math.nan] * len(POINTS)
    np.testing.assert_array_equal(found, expected)


def test_blocks_of_pairs_do_not_change_the_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(np.random.default_rng(3), images=20, detections=200, truths=60)
    whole = froc_curve(hits_of(case, RULES[0]))
    monkeypatch.setattr("scoutview.metrics.matching._AT_ONCE", 3)
    for a, b in zip(froc_curve(hits_of(case, RULES[0])), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def random_case(generator: np.random.Generator, images: int, detections: int, truths: int) -> Case:
    def boxes(number: int) -> list[Box]:
        corners = generator.uniform(0, 40, (number, 2))
        return [tuple(row) for row in np.concatenate([corners, corners + generator.uniform(5, 30, (number, 2))], 1)]

    return Case(
        images,
        tuple(
            (int(image), box, float(score))
            for image, box, score in zip(
                generator.integers(images, size=detections),
                boxes(detections),
                generator.random(detections).round(2),
                strict=True,
            )
        ),
        tuple(
            (int(image), box) for image, box in zip(generator.integers(images, size=truths), boxes(truths), strict=True)
        ),
    )


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_many_boxes_equal_brute_force(rule: MatchingRule) -> None:
    case = random_case(np.random.default_rng(0), images=40, detections=400, truths=50)
    np.testing.assert_allclose(froc_sensitivities(hits_of(case, rule)), brute_sensitivities(case, rule, False))


def test_the_truth_of_highest_overlap_is_taken_and_repeats_are_ignored() -> None:
    truths = ((0, (0.0, 0.0, 10.0, 10.0)), (0, (4.0, 0.0, 14.0, 10.0)))
    first = (0, (3.0, 0.0, 13.0, 10.0), 0.9)  # nearer to the second truth
    second = (0, (4.0, 0.0, 14.0, 10.0), 0.8)  # the second truth itself, but that is taken: the first is left
    third = (0, (0.0, 0.0, 10.0, 10.0), 0.7)  # a repeat
    case = Case(1, (first, second, third), truths)
    assert froc_sensitivities(hits_of(case, RULES[0]), [0])[0] == 1
    assert hits_of(case, RULES[0]).repeats == 1
    assert len(hits_of(case, RULES[0]).false_scores) == 0
    assert len(hits_of(case, RULES[0], strict=True).false_scores) == 1


def test_equal_scores_are_taken_together() -> None:
    """A true and a false positive of one score: no threshold has the one without the other."""
    box: Box = (0.0, 0.0, 1.0, 1.0)
    case = Case(2, ((0, box, 0.5), (1, box, 0.5)), ((0, box),))
    np.testing.assert_array_equal(froc_sensitivities(hits_of(case, RULES[0]), [0, 0.49, 0.5]), [0, 0, 1])


def test_a_point_that_equals_a_count_per_image_is_reached() -> None:
    """57 / 100 is 0.57, though 0.57 x 100 is 56.99999999999999."""
    box: Box = (0.0, 0.0, 1.0, 1.0)
    false = tuple((image, box, 1.0) for image in range(1, 58))
    case = Case(100, (*false, (0, box, 0.5)), ((0, box),))
    assert 0.57 * 100 < 57
    np.testing.assert_array_equal(froc_sensitivities(hits_of(case, RULES[0]), [0.56, 0.57]), [0, 1])


def test_a_perfect_detector_without_false_positives_scores_1() -> None:
    boxes = spans((0, 1), (1, 2), (2, 3))
    case = Case(3, tuple((n, box, 0.9 - n / 10) for n, box in enumerate(boxes)), tuple(enumerate(boxes)))
    assert froc_score(hits_of(case, RULES[1])) == 1
    assert froc_score(hits_of(Case(1, ((0, boxes[0], 0.9),), ((0, boxes[0]),)), RULES[1])) == 1


def test_beside_monai() -> None:
    """MONAI leaves out the lowest threshold; with a false positive below all others it agrees, without it does not."""
    froc = pytest.importorskip("monai.metrics.froc")
    generator = np.random.default_rng(7)
    for trial in range(30):
        images, box = 20, (0.0, 0.0, 1.0, 1.0)
        with_truth = generator.permutation(images)[:8]
        scores = generator.permutation(60) / 60 + 0.1
        true = [(int(image), box, float(score)) for image, score in zip(with_truth[:6], scores, strict=False)]
        spare = [image for image in range(images) if image not in with_truth]
        false = [(int(generator.choice(spare)), box, float(score)) for score in scores[6 : 6 + trial]]
        lowest = (spare[0], box, 0.01)
        truths = tuple((int(image), box) for image in with_truth)
        for detections, agrees in (([*true, *false, lowest], True), ([*true, *false], False)):
            ours = froc_sensitivities(hits_of(Case(images, tuple(detections), truths), RULES[0]), (0.25, 0.5, 1, 2))
            theirs_false, theirs_true = froc.compute_froc_curve_data(
                fp_probs=np.asarray([score for image, _, score in detections if image in spare]),
                tp_probs=np.asarray([score for image, _, score in detections if image not in spare]),
                num_targets=len(truths),
                num_images=images,
            )
            theirs = [
                max([s for f, s in zip(theirs_false, theirs_true, strict=True) if f <= x]) for x in (0.25, 0.5, 1, 2)
            ]
            if agrees:
                np.testing.assert_allclose(ours, theirs)
            else:
                assert (ours >= np.asarray(theirs) - 1e-12).all()


def test_monai_is_wrong_without_false_positives() -> None:
    """3 of 3 found and nothing else: MONAI says 2/3 (with 1 of 1: 0), because it drops the lowest threshold."""
    froc = pytest.importorskip("monai.metrics.froc")
    mask = np.zeros((9, 3), dtype=int)
    for label in (1, 2, 3):
        mask[3 * label - 3 : 3 * label - 1, 0:2] = label
    for number, theirs in ((3, 2 / 3), (1, 0.0)):
        rows = np.asarray([0, 3, 6][:number])
        labels = np.where(mask <= number, mask, 0)
        false_scores, true_scores, targets = froc.compute_fp_tp_probs(
            np.asarray([0.9, 0.8, 0.7][:number]), rows, np.zeros(number, dtype=int), labels
        )
        _, sensitivity = froc.compute_froc_curve_data(false_scores, true_scores, targets, 1)
        assert max(sensitivity) == pytest.approx(theirs)
        truths = tuple((0, (0.0, row, 2.0, row + 2.0)) for row in rows.astype(float))
        found = tuple(
            (0, (0.0, row, 1.0, row + 1.0), score)
            for row, score in zip(rows.astype(float), (0.9, 0.8, 0.7), strict=False)
        )
        assert froc_score(hits_of(Case(1, found, truths), MatchingRule("center_in_box"))) == 1


def test_intervals_are_those_of_a_slow_bootstrap() -> None:
    generator = np.random.default_rng(5)
    case = random_case(generator, images=24, detections=60, truths=20)
    patients = np.asarray([f"p{n}" for n in generator.integers(10, size=24)])
    hits = hits_of(case, RULES[0])
    found = evaluate_froc(hits, patients, rounds=40, seed=9)
    draws = []
    for counts in np.concatenate(list(patient_weights(patients, 40, 9))).astype(int):
        copies = [image for image, count in enumerate(counts) for _ in range(count)]
        resampled = Case(
            len(copies),
            tuple((new, b, s) for new, old in enumerate(copies) for i, b, s in case.detections if i == old),
            tuple((new, b) for new, old in enumerate(copies) for i, b in case.truths if i == old),
        )
        draws.append(brute_sensitivities(resampled, RULES[0], False))
    low, high = np.quantile(np.mean(draws, axis=1), [0.025, 0.975])
    assert found["score"] == pytest.approx({"value": froc_score(hits), "low": low, "high": high})
    for place, entry in enumerate(found["sensitivities"]):
        low, high = np.quantile(np.asarray(draws)[:, place], [0.025, 0.975])
        assert (entry["low"], entry["high"]) == pytest.approx((low, high))


def test_the_content_of_evaluation_json(tmp_path: object) -> None:
    case = random_case(np.random.default_rng(6), images=30, detections=1200, truths=20)
    found = evaluate_froc(hits_of(case, RULES[0]), np.arange(30), rounds=20)
    assert found["true_positives"] + found["false_positives"] + found["repeats"] == 1200
    assert (found["images"], found["truths"]) == (30, 20)
    assert len(found["curve"]["sensitivity"]) == len(found["curve"]["false_positives_per_image"]) <= 500
    assert found["note"] == "with 30 images, 0.01 false positives per image (below 1/30) mean none at all"
    write_json(tmp_path / "evaluation.json", found)  # type: ignore[operator]
    assert json.loads((tmp_path / "evaluation.json").read_text())["images"] == 30  # type: ignore[operator]


def test_the_note_names_the_points_below_one_false_positive() -> None:
    assert froc_note(10) == "with 10 images, 0.01, 0.05 false positives per image (below 1/10) mean none at all"
    assert froc_note(99) != ""
    assert froc_note(100) == ""


def test_images_without_boxes_and_sets_without_truths() -> None:
    nothing = hits_of(Case(4, (), ()), RULES[0])
    assert math.isnan(froc_score(nothing))
    assert froc_score(hits_of(Case(4, (), ((0, (0.0, 0.0, 1.0, 1.0)),)), RULES[0])) == 0
    assert evaluate_froc(nothing, np.arange(4), rounds=5)["false_positives"] == 0


def test_wrong_input_is_named() -> None:
    box = [[0.0, 0.0, 1.0, 1.0]]
    with pytest.raises(UsageError, match="count them from 0"):
        find_hits([3], box, [0.5], [0], box, 3, RULES[0])
    with pytest.raises(UsageError, match="end before they begin"):
        find_hits([0], [[2.0, 0.0, 1.0, 1.0]], [0.5], [0], box, 3, RULES[0])
    with pytest.raises(UsageError, match="one finite number"):
        find_hits([0], box, [float("nan")], [0], box, 3, RULES[0])
    with pytest.raises(UsageError, match="give integers"):
        find_hits([0.0], box, [0.5], [0], box, 3, RULES[0])
    with pytest.raises(UsageError, match="at least one"):
        find_hits([], [], [], [], [], 0, RULES[0])
    for name, limit in (("iou", 1.1), ("iou", 0.0), ("center_in_box", 1.0), ("center_distance", -1.0), ("dice", 0.5)):
        with pytest.raises(UsageError, match="matching rule"):
            MatchingRule(name, limit)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one key per image"):
        evaluate_froc(hits_of(Case(4, (), ()), RULES[0]), np.arange(3))
