"""Two models on the same cases: against scikit-learn in a loop over resamples, and the measures of each alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from scoutview.errors import UsageError
from scoutview.metrics import (
    CaseScores,
    ClassBoxes,
    MovedScores,
    compare_models,
    compare_robustness,
    evaluate_detections,
    evaluate_robustness,
    evaluate_scores,
    froc_score,
    froc_test,
    hits_of_class,
)
from scoutview.metrics.detection import RULES, froc_name

ROUNDS, CASES = 80, 50


def two_models(seed: int) -> tuple[CaseScores, CaseScores]:
    """Scores of two findings, each known of some cases; patients have two cases or so."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((CASES, 2)) < 0.4).astype(np.float32)
    targets[generator.random((CASES, 2)) < 0.2] = np.nan
    patients = generator.integers(0, 25, CASES).astype(str)
    scores = [np.round(generator.random((CASES, 2)) + gain * np.nan_to_num(targets), 1) / 2 for gain in (0.8, 0.3)]
    this, other = (CaseScores(("a", "b"), np.arange(CASES), patients, one, targets) for one in scores)
    return this, other


def resampled(patients: np.ndarray, seed: int) -> list[np.ndarray]:
    """The rows of all cases, and of each resample of patients, in the order of the generator."""
    keys = np.unique(patients)
    drawn = np.random.default_rng(seed).integers(len(keys), size=(ROUNDS, len(keys)))
    mine = [np.flatnonzero(patients == key) for key in keys]
    return [np.arange(len(patients)), *(np.concatenate([mine[k] for k in row]) for row in drawn)]


def assert_paired(entry: dict, this: np.ndarray, other: np.ndarray) -> None:
    """An entry of a comparison is what these values [1 + round] say."""
    for name, values in (("this", this), ("other", other), ("difference", this - other)):
        drawn = values[1:][~np.isnan(values[1:])]
        assert entry[name]["value"] == pytest.approx(values[0])
        assert entry[name]["low"] == pytest.approx(np.quantile(drawn, 0.025))
        assert entry[name]["high"] == pytest.approx(np.quantile(drawn, 0.975))
    # Exact zeros count for both sides; a difference of equal areas may round to nearly 0.
    drawn = np.round(drawn, 12)
    rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    assert entry["difference"]["p"] == pytest.approx(min(1.0, 2 * (rarer + 1) / (len(drawn) + 1)))


@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_scikit_learn_on_every_resample(seed: int) -> None:
    this, other = two_models(seed)
    content = compare_models(this, other, rounds=ROUNDS)
    taken = np.flatnonzero((~np.isnan(this.targets)).any(1))
    for figure, function in (("auc", roc_auc_score), ("ap", average_precision_score)):
        found: list[list[list[float]]] = []
        for rows in resampled(this.patients[taken], 0):
            chosen, values = taken[rows], []
            for column in range(2):
                kept = chosen[~np.isnan(this.targets[chosen, column])]
                truth = this.targets[kept, column] == 1
                absent = truth.all() or not truth.any()
                values.append([np.nan if absent else function(truth, m.scores[kept, column]) for m in (this, other)])
            found.append(values)
        areas = np.array(found, dtype=np.float64)
        for column, name in enumerate("ab"):
            assert_paired(content["per_class"][name][figure], areas[:, column, 0], areas[:, column, 1])
        assert_paired(content["metrics"][figure], *np.nanmean(areas, 1).T)


def test_each_model_has_the_figures_that_it_has_alone() -> None:
    this, other = two_models(4)
    content = compare_models(this, other, rounds=ROUNDS)
    for model, which in ((this, "this"), (other, "other")):
        alone = evaluate_scores(model.scores, model.targets, model.patients, model.classes, rounds=ROUNDS)
        for figure in ("auc", "ap"):
            assert content["metrics"][figure][which] == pytest.approx(alone["metrics"][figure])
            for name in "ab":
                assert content["per_class"][name][figure][which] == pytest.approx(alone["per_class"][name][figure])


def test_a_model_against_itself_and_the_other_way_round() -> None:
    this, other = two_models(5)
    same = compare_models(this, this, rounds=ROUNDS)["metrics"]["auc"]["difference"]
    assert same == {"value": 0, "low": 0, "high": 0, "p": 1}
    there, back = (compare_models(*pair, rounds=ROUNDS)["metrics"]["ap"] for pair in ((this, other), (other, this)))
    assert there["difference"]["value"] == pytest.approx(-back["difference"]["value"])
    assert there["difference"]["low"] == pytest.approx(-back["difference"]["high"])
    assert there["difference"]["p"] == back["difference"]["p"]


def test_one_patient_gives_no_interval() -> None:
    this, other = two_models(6)
    alone = [CaseScores(m.classes, m.cases, np.zeros(CASES), m.scores, m.targets) for m in (this, other)]
    difference = compare_models(alone[0], alone[1], rounds=5)["metrics"]["auc"]["difference"]
    assert np.isfinite(difference["value"])
    assert all(np.isnan(difference[name]) for name in ("low", "high", "p"))


def test_other_cases_are_refused() -> None:
    this, other = two_models(7)
    moved = {
        "classes": ("b", "a"),
        "cases": other.cases[::-1],
        "patients": other.patients[::-1],
        "targets": np.where(np.isnan(other.targets), 0, other.targets),
    }
    for name, value in moved.items():
        with pytest.raises(UsageError, match="different cases or targets"):
            compare_models(this, CaseScores(**{**vars(other), name: value}))
    unknown = [CaseScores(**{**vars(m), "targets": np.full((CASES, 2), np.nan)}) for m in (this, other)]
    with pytest.raises(UsageError, match="no case has a known target"):
        compare_models(unknown[0], unknown[1])


def boxes(generator: np.random.Generator, most: int, scored: bool) -> ClassBoxes:
    counts = generator.integers(0, most + 1, CASES)
    lists = [generator.integers(0, 12, (count, 2)) for count in counts]
    corners = [np.concatenate([own, own + generator.integers(4, 12, own.shape)], 1) for own in lists]
    scores = [generator.random(count) for count in counts] if scored else None
    return ClassBoxes.join(corners, [generator.integers(0, 2, count) for count in counts], scores)


def test_detectors_have_the_froc_that_they_have_alone_and_its_paired_test() -> None:
    generator = np.random.default_rng(8)
    truths, detections = boxes(generator, 2, False), [boxes(generator, most, True) for most in (6, 3)]
    known, patients = np.ones((CASES, 2), dtype=bool), generator.integers(0, 30, CASES)
    targets = np.zeros((CASES, 2))
    targets[truths.images, truths.classes] = 1
    models = [
        CaseScores(("a", "b"), np.arange(CASES), patients, np.zeros((CASES, 2)), targets, found, truths)
        for found in detections
    ]
    content = compare_models(models[0], models[1], rounds=ROUNDS)
    for which, found in zip(("this", "other"), detections, strict=True):
        alone = evaluate_detections(found, truths, known, patients, ["a", "b"], rounds=ROUNDS)
        for rule in RULES:
            assert content["metrics"][froc_name(rule)][which] == pytest.approx(alone["metrics"][froc_name(rule)])
    for rule in RULES:
        hits = [[hits_of_class(found, truths, known, number, rule) for number in (0, 1)] for found in detections]
        for number, name in enumerate("ab"):
            expected = froc_test(hits[0][number], hits[1][number], patients, rounds=ROUNDS)
            assert content["per_class"][name][froc_name(rule)]["difference"] == pytest.approx(expected.as_dict())
        means = [np.mean([froc_score(own) for own in each]) for each in hits]
        assert content["metrics"][froc_name(rule)]["difference"]["value"] == pytest.approx(means[0] - means[1])


def test_robustness_is_a_loop_over_resamples() -> None:
    generator = np.random.default_rng(9)
    targets = (generator.random((CASES, 2)) < 0.5).astype(np.float32)
    targets[:5, 1] = np.nan
    patients = generator.integers(0, 20, CASES)
    models = []
    for spread in (0.3, 1.0):
        logits = generator.normal(size=(CASES, 2)) + np.nan_to_num(targets)
        moved = logits[:, None] + spread * generator.normal(size=(CASES, 7, 2))
        models.append(MovedScores(1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-moved))))
    both = compare_robustness(models[0], models[1], targets, patients, rounds=ROUNDS)
    first = [
        MovedScores(model.before[:, :1], model.after[:, :, :1])
        for model in models  # one class that is known throughout: its figures are those of evaluate_robustness
    ]
    single = compare_robustness(first[0], first[1], targets[:, :1], patients, rounds=ROUNDS)
    for which, model in zip(("this", "other"), models, strict=True):
        alone = evaluate_robustness(model.before[:, 0], model.after[:, :, 0], targets[:, 0], patients, rounds=ROUNDS)
        assert all(single[name][which] == pytest.approx(alone[name]) for name in single)
    values = []
    for rows in resampled(patients, 0):
        medians = []
        for model in models:
            before, after = model.before[rows, 0], model.after[rows, :, 0]
            medians.append(np.median(np.abs(after - before[:, None]) / np.maximum(before, 0.001)[:, None]))
        values.append(medians)
    assert_paired(single["median_change"], *np.array(values).T)
    assert both["median_change"]["difference"]["high"] < 0
    for name, entry in both.items():
        one, two = (
            [
                evaluate_robustness(
                    model.before[kept, column], model.after[kept, :, column], targets[kept, column], patients[kept], 2
                )[name]["value"]
                for column, kept in ((0, np.arange(CASES)), (1, np.arange(5, CASES)))
            ]
            for model in models
        )
        assert entry["difference"]["value"] == pytest.approx(np.mean(one) - np.mean(two))
