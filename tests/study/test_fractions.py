"""Labelled parts: by patient, nested, stratified, every class present, the same for everyone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoutview.study.fractions import labelled_part


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(patients, classes): a few images per patient, now and then of several classes."""
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    number, kinds = draw(st.integers(2, 60)), draw(st.integers(1, 5))
    patients = np.repeat([f"p{each}" for each in range(number)], generator.integers(1, 5, number))
    own = np.repeat(generator.integers(kinds, size=number), np.unique(patients, return_counts=True)[1].sum())[
        : len(patients)
    ]
    mixed = generator.random(len(patients)) < 0.1
    return patients, np.where(mixed, generator.integers(kinds, size=len(patients)), own)


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(0, 5))
def test_parts_are_whole_patients_nested_and_hold_every_class(cohort: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    patients, classes = cohort
    smaller = np.zeros(len(patients), dtype=bool)
    for fraction in (0.05, 0.1, 0.25, 0.5, 1.0):
        kept = labelled_part(patients, classes, fraction, seed)
        assert set(patients[kept]).isdisjoint(patients[~kept])
        assert set(classes[kept]) == set(classes)
        assert (kept | ~smaller).all()
        smaller = kept
    assert smaller.all()


def test_the_part_has_the_share_of_each_class_and_depends_on_the_seed() -> None:
    patients = np.array([f"p{number:03d}" for number in range(400)])
    classes = np.repeat([0, 1, 1, 1], 100)
    first, second = (labelled_part(patients, classes, 0.1, seed) for seed in (0, 1))
    for kept in (first, second):
        assert np.count_nonzero(kept[:100]) == 10
        assert np.count_nonzero(kept[100:]) == 30
    assert (first != second).any()
    assert (labelled_part(patients, classes, 0.1, 0) == first).all()


def test_the_order_of_images_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    patients = generator.integers(50, size=300).astype(str)
    classes = generator.integers(3, size=300)
    order = generator.permutation(300)
    kept = labelled_part(patients, classes, 0.25, 7)
    assert (labelled_part(patients[order], classes[order], 0.25, 7) == kept[order]).all()


@pytest.mark.parametrize("fraction", [0.01, 0.1])
def test_one_patient_per_class_is_the_least(fraction: float) -> None:
    patients, classes = np.array(["a", "b", "c", "d"]), np.array([0, 0, 1, 1])
    kept = labelled_part(patients, classes, fraction, 3)
    assert sorted(classes[kept].tolist()) == [0, 1]
