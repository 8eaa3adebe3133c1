"""The page of a classifier's cases: which are shown, in what order, with which words and pixels."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
from pages import figures_of_cases
from PIL import Image

from scoutview.commands.scored_cases import distances_of, write_scored_cases
from scoutview.metrics import CaseScores
from scoutview.tasks import Shown
from scoutview.tasks.evaluation import CasePicture

NAN = float("nan")


def scores_of(scores: list[list[float]], targets: list[list[float]], classes: str = "abcdef") -> CaseScores:
    names = tuple(classes[: len(scores[0])])
    numbers = np.arange(len(scores))
    return CaseScores(names, numbers, numbers, np.array(scores), np.array(targets, dtype=np.float32))


def test_the_error_where_classes_exclude_each_other_is_what_the_true_one_lacks() -> None:
    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.ones(4), 50)
    true = generator.integers(0, 4, 50)
    distances = distances_of(scores_of(scores.tolist(), np.eye(4)[true].tolist()))
    np.testing.assert_allclose(distances.max(1), [1 - row[place] for row, place in zip(scores, true, strict=True)])


def test_worst_first_without_the_unknown_and_with_the_pixels_of_each(tmp_path: Path) -> None:
    scores = [
        [0.9, 0.2, 0.5, 0.5, 0.7, 0.1],
        [0.5] * 6,
        [0.9, 0.8, 0.1, 0.1, 0.1, 0.1],
        [0.25, 0.5, 0.5, 0.5, 0.5, 0.5],
    ]
    targets = [[1, 0, 0, 1, 0, 0], [NAN] * 6, [0, 1, 0, 0, NAN, 0], [1, NAN, NAN, NAN, NAN, NAN]]
    pixels = np.random.default_rng(1).random((4, 5, 7)).astype(np.float32)
    shown = Shown("slice", scores_of(scores, targets), lambda case: CasePicture(f"case{case}", pixels[case], "a note"))
    write_scored_cases(tmp_path, "letters", shown)
    html = (tmp_path / "cases.html").read_text()
    assert figures_of_cases(html) == [
        ("case2", ["error 0.900", "a 0.900", "b 0.800, true", "c 0.100", "d 0.100", "a note"]),
        ("case3", ["error 0.750", "a 0.250, true", "a note"]),
        ("case0", ["error 0.700", "e 0.700", "c 0.500", "d 0.500, true", "b 0.200", "a note"]),
    ]
    assert "This page shows all 3 test slices, worst first." in html
    stored = [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", html)]
    for data, case in zip(stored, (2, 3, 0), strict=True):
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data))), (pixels[case] * 255).round())
