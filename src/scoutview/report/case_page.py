"""The page of a detector's test images: what is there, what was found, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scoutview.report.template import fill
from scoutview.report.wording import count, score


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
class Case:
    """An image of rows x columns px. picture: data URI, of any size; error in [0, 1]; note: what else to say."""

    image: str
    picture: str
    rows: int
    columns: int
    boxes: Sequence[CaseBox]
    error: float
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """What stands below the picture."""
        true = [box for box in self.boxes if box.score is None]
        found = [box for box in self.boxes if box.score is not None]
        best = f"; best found: {found[0].words}" if found else "; nothing found"
        boxes = "no box" if not true else "1 true box" if len(true) == 1 else f"{len(true)} true boxes"
        return [f"error {score(self.error)}", boxes + best]


def write_case_page(path: Path, classes: str, cases: Sequence[Case], images: int) -> Path:
    """Write one HTML file that needs no network and no script. Replaces `path` and returns it.

    cases: in the order in which they are shown; images: how many there are in all.
    """
    shown = f"all {count(images)}" if len(cases) == images else f"the worst {count(len(cases))} of {count(images)}"
    return fill("cases.html", path, title=f"Test images: {classes}", shown=shown, cases=cases)
