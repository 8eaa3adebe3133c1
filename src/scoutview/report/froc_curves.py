"""The fROC curves of a detector, from evaluation.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from scoutview.report.classifier_curves import SIDE, pairs
from scoutview.report.curves import Panel
from scoutview.report.read import mapping
from scoutview.report.svg import INKS, figure, inline
from scoutview.report.wording import estimate

_FEWEST, _MOST = 0.01, 8.0  # false positives per image, the ends of the score
_STROKES = ("-", "--", ":")
_RULES = {"iou 0.1": "IoU 0.1", "iou 0.5": "IoU 0.5", "center_in_box": "centre in the box"}


def froc_panels(evaluation: Mapping[str, Any], prefix: str) -> list[Panel]:
    """One panel per class that has a fROC: the curves of all matching rules."""
    panels = []
    for index, (name, entry) in enumerate(mapping(evaluation.get("per_class")).items()):
        rules = mapping(mapping(entry).get("froc"))
        curves = {
            rule: pairs(mapping(found).get("curve"), "false_positives_per_image", "sensitivity")
            for rule, found in rules.items()
        }
        curves = {_RULES.get(rule, rule): points for rule, points in curves.items() if points}
        if curves:
            told = {_RULES.get(rule, rule): estimate(mapping(found).get("score")) for rule, found in rules.items()}
            scores = "; ".join(f"{rule}: {figures}" for rule, figures in told.items())
            picture = _drawn(name, curves, f"{prefix}-{index}-")
            panels.append(Panel(f"{name}: fROC", f"Mean sensitivity at nine points. {scores}.", picture))
    return panels


def _drawn(name: str, curves: Mapping[str, Sequence[tuple[float, float]]], prefix: str) -> Markup:
    drawing, axes = figure(SIDE, SIDE)
    drawing.subplots_adjust(left=44 / SIDE, right=0.97, bottom=36 / SIDE, top=0.97)
    for stroke, (rule, points) in zip(_STROKES, curves.items(), strict=False):
        # A threshold holds up to the next one, and the last of them to the end.
        x = [max(point[0], _FEWEST / 10) for point in points] + [max(points[-1][0], _MOST)]
        y = [point[1] for point in points] + [points[-1][1]]
        axes.plot(x, y, stroke, color=INKS["accent"], linewidth=1.6, drawstyle="steps-post", label=rule)
    axes.set_xscale("log")
    axes.set_xlim(_FEWEST, _MOST)
    axes.set_ylim(0, 1.01)
    axes.set_xticks([0.01, 0.1, 1, 8], ["0.01", "0.1", "1", "8"])
    axes.set_xlabel("false positives per image", fontsize=8.5, color=INKS["quiet"], labelpad=3)
    axes.set_ylabel("sensitivity", fontsize=8.5, color=INKS["quiet"], labelpad=3)
    axes.legend(fontsize=8, frameon=False, labelcolor=INKS["ink"])
    return inline(drawing, f"sensitivity over false positives per image for {name}", prefix)
