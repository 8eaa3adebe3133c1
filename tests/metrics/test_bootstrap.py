"""The bootstrap against a slow loop, on simulated patients, and at its edges."""

from __future__ import annotations

import time

import numpy as np
import pytest

from scoutview.errors import UsageError
from scoutview.metrics import Interval, paired_difference, patient_bootstrap, roc_auc
from scoutview.metrics.bootstrap import patient_weights


def sample(seed: int, n: int = 80, patients: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positives = generator.random(n) < 0.4
    scores = generator.normal(size=n) + positives
    return scores, positives, np.asarray([f"p{k}" for k in generator.integers(patients, size=n)])


def test_equals_a_slow_loop_over_drawn_patients() -> None:
    scores, positives, patients = sample(0)
    names = sorted(set(patients.tolist()))
    generator = np.random.default_rng(5)
    draws = []
    for _ in range(200):
        rows: list[int] = []
        for name in generator.integers(len(names), size=len(names)):
            rows += np.flatnonzero(patients == names[name]).tolist()
        draws.append(roc_auc(scores[rows], positives[rows]))
    found = patient_bootstrap(roc_auc, scores, positives, patients=patients, rounds=200, seed=5)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (found.value, found.low, found.high) == pytest.approx((roc_auc(scores, positives), low, high))
    assert found.as_dict() == {"value": found.value, "low": found.low, "high": found.high}


def test_blocks_do_not_change_the_draws() -> None:
    patients = sample(0)[2]
    whole = np.concatenate(list(patient_weights(patients, 50, seed=1)))
    parts = list(patient_weights(patients, 50, seed=1, at_once=7 * len(patients)))
    assert len(parts) == 8
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for patient in set(patients.tolist()):  # all images of a patient count alike
        assert (np.ptp(whole[:, patients == patient], axis=1) == 0).all()


def test_paired_difference_uses_the_same_resamples() -> None:
    scores, positives, patients = sample(1)
    same = paired_difference(roc_auc, (scores, positives), (scores, positives), patients, rounds=100)
    assert same == Interval(0.0, 0.0, 0.0)
    worse = scores + np.random.default_rng(0).normal(size=len(scores)) / 2
    paired = paired_difference(roc_auc, (scores, positives), (worse, positives), patients, rounds=500)
    alone = [patient_bootstrap(roc_auc, s, positives, patients=patients, rounds=500) for s in (scores, worse)]
    assert paired.value == pytest.approx(alone[0].value - alone[1].value)
    assert paired.high - paired.low < sum(one.high - one.low for one in alone) / 2


def test_repeated_images_do_not_narrow_the_interval() -> None:
    scores, positives, _ = sample(2, n=60)
    once = patient_bootstrap(roc_auc, scores, positives, patients=np.arange(60), seed=3, rounds=500)
    five = [np.repeat(array, 5) for array in (scores, positives, np.arange(60))]
    by_patient = patient_bootstrap(roc_auc, *five[:2], patients=five[2], seed=3, rounds=500)
    by_image = patient_bootstrap(roc_auc, *five[:2], patients=np.arange(300), seed=3, rounds=500)
    assert (by_patient.low, by_patient.high) == pytest.approx((once.low, once.high))
    assert by_patient.high - by_patient.low > 1.8 * (by_image.high - by_image.low)


def test_interval_holds_the_truth_about_95_times_in_100() -> None:
    """Patients with an effect of their own and 1 to 4 images; the truth is the mean of the population."""
    generator = np.random.default_rng(11)
    covered = covered_by_image = 0
    for trial in range(300):
        patients = np.repeat(np.arange(60), generator.integers(1, 5, size=60))
        values = generator.normal(size=60)[patients] + 0.5 * generator.normal(size=len(patients))
        for keys in (patients, np.arange(len(patients))):
            found = patient_bootstrap(np.mean, values, patients=keys, rounds=200, seed=trial)
            inside = found.low <= 0 <= found.high
            covered, covered_by_image = (
                covered + (inside and keys is patients),
                covered_by_image + (inside and keys is not patients),
            )
    assert 0.90 <= covered / 300 <= 0.98
    assert covered_by_image / 300 < 0.88  # what resampling images would have claimed as 95%


def test_auc_interval_holds_the_truth() -> None:
    generator = np.random.default_rng(12)
    truth = 0.7602499389  # normal scores one standard deviation apart: Phi(1 / sqrt 2)
    covered = 0
    for trial in range(120):
        positives = np.arange(120) % 3 == 0
        scores = generator.normal(size=120) + positives
        found = patient_bootstrap(roc_auc, scores, positives, patients=np.arange(120), rounds=150, seed=trial)
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / 120 <= 0.985


def test_resamples_without_a_value_are_counted() -> None:
    scores, positives = np.asarray([3.0, 2.0, 1.0]), np.asarray([True, False, False])
    found = patient_bootstrap(roc_auc, scores, positives, patients=["a", "b", "c"], rounds=1000)
    # All drawn patients negative: (2/3)^3; all the positive one: (1/3)^3.
    assert found.ignored == pytest.approx(1000 * (8 + 1) / 27, abs=60)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert found.as_dict()["ignored_resamples"] == found.ignored


def test_one_patient_gives_no_interval() -> None:
    found = patient_bootstrap(roc_auc, [1.0, 2.0], [False, True], patients=["a", "a"], rounds=10)
    assert found.value == 1
    assert np.isnan([found.low, found.high]).all()


def test_no_value_at_all() -> None:
    found = patient_bootstrap(roc_auc, [1.0, 2.0], [True, True], patients=["a", "b"], rounds=10)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.ignored == 10


def test_wrong_input_is_named() -> None:
    with pytest.raises(UsageError, match="one key per image"):
        patient_bootstrap(roc_auc, [1.0], [True], patients=["a", "b"])
    with pytest.raises(UsageError, match="at least one image"):
        patient_bootstrap(roc_auc, [], [], patients=[])
    with pytest.raises(UsageError, match=r"level 95"):
        patient_bootstrap(np.mean, [1.0, 2.0], patients=["a", "b"], rounds=10, level=95)


def test_2000_rounds_of_300_images_are_quick() -> None:
    scores, positives, patients = sample(0, n=300, patients=150)
    begin = time.process_time()
    patient_bootstrap(roc_auc, scores, positives, patients=patients)
    assert time.process_time() - begin < 2
