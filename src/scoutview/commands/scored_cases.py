"""The page of a classifier's test cases, worst first: a picture of each, what is true, what was predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoutview.metrics import CaseScores
from scoutview.report import CASE_PAGE, CASE_PICTURES, Case, CaseScore, thumbnail, write_case_page
from scoutview.tasks import Shown

CLASSES = 4
"""Below a picture."""


def write_scored_cases(run: Path, label: str, shown: Shown) -> None:
    """Write cases.html of a run. label: what it says of the cases."""
    distances = distances_of(shown.scores)
    known = np.flatnonzero((distances >= 0).any(1))
    errors = distances[known].max(1)
    worst = np.argsort(-errors, kind="stable")[:CASE_PICTURES]
    cases = [_case(shown, int(case), distances[case]) for case in known[worst]]
    write_case_page(run / CASE_PAGE, label, cases, len(known), shown.unit)


def distances_of(scores: CaseScores) -> npt.NDArray[np.float64]:
    """[case, class]: how far a probability is from the truth, -1 where that is not known.

    The error of a case is the largest: where classes exclude each other, 1 less the probability of the true one.
    """
    return np.nan_to_num(np.abs(scores.targets.astype(np.float64) - scores.scores), nan=-1.0)


def _case(shown: Shown, case: int, distances: npt.NDArray[np.float64]) -> Case:
    """A picture with the classes of which the model is farthest from the truth."""
    picture, scores = shown.picture(case), shown.scores
    told = [
        CaseScore(scores.classes[place], float(scores.scores[case, place]), bool(scores.targets[case, place] == 1))
        for place in np.argsort(-distances, kind="stable")[:CLASSES].tolist()
        if distances[place] >= 0
    ]
    rows, columns = picture.pixels.shape
    error = float(distances.max())
    return Case(picture.name, thumbnail(picture.pixels), rows, columns, error, scores=told, note=picture.note)
