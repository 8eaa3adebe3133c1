"""The curves of a classifier, from evaluation.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from scoutview.report.curves import Panel
from scoutview.report.read import listing, mapping, number
from scoutview.report.svg import INKS, figure, inline
from scoutview.report.wording import score

SIDE = 235.0
"""Of a square panel, in points."""


def class_panels(evaluation: Mapping[str, Any], prefix: str) -> list[Panel]:
    """ROC, precision-recall and calibration curves, up to three panels per class that has points."""
    panels = []
    for index, (name, curves) in enumerate(mapping(evaluation.get("curves")).items()):
        found = mapping(mapping(evaluation.get("per_class")).get(name))
        positives, images = number(found.get("positives")), number(found.get("images"))
        roc = pairs(curves, "false_positive_rate", "true_positive_rate")
        recall = pairs(curves, "recall", "precision")
        if roc:
            panels.append(
                Panel(
                    f"{name}: ROC",
                    "True over false positive rate; the diagonal is chance.",
                    _square(name, roc, ("false positive rate", "true positive rate"), None, f"{prefix}-{index}r-"),
                )
            )
        if recall:
            share = positives / images if positives is not None and images else None
            note = "Precision over recall" + (
                f"; the line is the share of positives, {score(share)}." if share is not None else "."
            )
            panels.append(
                Panel(
                    f"{name}: precision and recall",
                    note,
                    _square(name, recall, ("recall", "precision"), share or 0.0, f"{prefix}-{index}p-"),
                )
            )
        points = pairs(mapping(evaluation.get("reliability")).get(name), "mean_probability", "observed")
        if points and roc:
            panels.append(
                Panel(
                    f"{name}: calibration",
                    "Share of positives over mean probability, by bin; on the diagonal probabilities are true.",
                    _square(name, points, ("predicted", "observed"), None, f"{prefix}-{index}c-"),
                )
            )
    return panels


def pairs(curves: Any, x: str, y: str) -> list[tuple[float, float]]:
    """The points of a curve of evaluation.json whose two figures are numbers."""
    columns = zip(listing(mapping(curves).get(x)), listing(mapping(curves).get(y)), strict=False)
    pairs = [(number(a), number(b)) for a, b in columns]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _square(
    name: str, points: Sequence[tuple[float, float]], axis_names: tuple[str, str], level: float | None, prefix: str
) -> Markup:
    """A curve in the unit square with its chance line: the diagonal where `level` is None."""
    drawing, axes = figure(SIDE, SIDE)
    drawing.subplots_adjust(left=44 / SIDE, right=0.97, bottom=36 / SIDE, top=0.97)
    chance = (0.0, 1.0) if level is None else (level, level)
    axes.plot((0, 1), chance, color=INKS["quiet"], linewidth=0.8, linestyle=(0, (4, 3)))
    x, y = np.asarray(points).T
    axes.plot(x, y, color=INKS["accent"], linewidth=1.6, drawstyle="default" if level is None else "steps-pre")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel(axis_names[0], fontsize=8.5, color=INKS["quiet"], labelpad=3)
    axes.set_ylabel(axis_names[1], fontsize=8.5, color=INKS["quiet"], labelpad=3)
    return inline(drawing, f"{axis_names[1]} over {axis_names[0]} for {name}", prefix)
