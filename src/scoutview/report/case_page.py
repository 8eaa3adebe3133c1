"""The page of a model's test cases: what is there, what was found, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scoutview.report.template import fill
from scoutview.report.wording import count, score

CASE_PAGE = "cases.html"
"""In the folder of a run."""
CASE_PICTURES = 120
"""Cases on the page."""


@dataclass(frozen=True)
class CaseBox:
    """A box: left, top, right, bottom in px of the image; its class; its score, None where it is a true one."""

    corners: tuple[float, ...]
    name: str
    score: float | None

    @property
    def words(self) -> str:
        """For a reader."""
        return f"{self.name}, true" if self.score is None else f"{self.name} {score(self.score)}"


@dataclass(frozen=True)
class CaseScore:
    """What a classifier says of a case: a class, its probability, whether it is true."""

    name: str
    score: float
    true: bool

    @property
    def words(self) -> str:
        """For a reader."""
        return f"{self.name} {score(self.score)}{', true' if self.true else ''}"


@dataclass(frozen=True)
class Case:
    """An image, or a slice of a volume, of rows x columns px.

    image: what names it. picture: data URI, of any size; error in [0, 1]; boxes of a detector, scores of a classifier;
    note: what else to say.
    """

    image: str
    picture: str
    rows: int
    columns: int
    error: float
    boxes: Sequence[CaseBox] = ()
    scores: Sequence[CaseScore] = ()
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """What stands below the picture."""
        if self.scores:
            return [f"error {score(self.error)}"]
        true = [box for box in self.boxes if box.score is None]
        found = [box for box in self.boxes if box.score is not None]
        best = f"; best found: {found[0].words}" if found else "; nothing found"
        boxes = "no box" if not true else "1 true box" if len(true) == 1 else f"{len(true)} true boxes"
        return [f"error {score(self.error)}", boxes + best]


def write_case_page(path: Path, classes: str, cases: Sequence[Case], total: int, unit: str = "image") -> Path:
    """Write one HTML file that needs no network and no script. Replaces `path` and returns it.

    cases: in the order in which they are shown; total: how many there are in all; unit: what one of them is.
    """
    shown = f"all {count(total)}" if len(cases) == total else f"the worst {count(len(cases))} of {count(total)}"
    scored = any(case.scores for case in cases)
    return fill(
        "cases.html", path, title=f"Test {unit}s: {classes}", shown=shown, unit=unit, scored=scored, cases=cases
    )
