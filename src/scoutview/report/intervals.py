"""Dots with their intervals on one axis: the picture beside every table of estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from scoutview.report.read import mapping, number
from scoutview.report.svg import INKS, inline, lying_rows
from scoutview.report.wording import estimate

_ROW = 23.0  # points
_LONGEST_LABEL = 32


@dataclass(frozen=True)
class Estimates:
    """One row: a label, its estimates {"value", "low", "high"} from top to bottom, whether it is the subject."""

    label: str
    figures: Sequence[Any]
    emphasized: bool


def interval_plot(rows: Sequence[Estimates], measure: str, prefix: str, span: tuple[float, float]) -> Markup | None:
    """The rows as dots with intervals over `span`; the first of a row is a disc, the second a ring.

    None when no row has a value. 0.5 is marked as chance, so `measure` is some AUC.
    """
    if not any(number(mapping(item).get("value")) is not None for row in rows for item in row.figures):
        return None
    labels, subjects = [row.label for row in rows], [row.emphasized for row in rows]
    drawing, axes = lying_rows(labels, subjects, _LONGEST_LABEL, _ROW, 14.0, 0.5)
    for index, row in enumerate(rows):
        ink = INKS["accent" if row.emphasized else "quiet"]
        for order, item in enumerate(row.figures):
            offset = 0.0 if len(row.figures) == 1 else (order - (len(row.figures) - 1) / 2) * 0.34
            _draw(axes, mapping(item), index + offset, ink, hollow=order > 0)
    axes.set_xlim(*span)
    axes.set_xlabel(f"{measure} (dashed: chance)", fontsize=8.5, color=INKS["quiet"], labelpad=2)
    told = "; ".join(f"{row.label}: {', '.join(estimate(item) for item in row.figures)}" for row in rows)
    return inline(drawing, f"{measure} with 95% intervals. {told}", prefix)


def common_span(figures: Sequence[Any]) -> tuple[float, float]:
    """One axis for all plots of a page: every limit and chance, with some air."""
    items = [mapping(item) for item in figures]
    values = [number(item.get(key)) for item in items for key in ("value", "low", "high")]
    known = [0.5, 0.75, *(value for value in values if value is not None)]
    return min(known) - 0.02, max(known) + 0.02


def _draw(axes: Any, item: dict[str, Any], height: float, ink: str, hollow: bool) -> None:
    value, low, high = (number(item.get(key)) for key in ("value", "low", "high"))
    if value is None:
        return
    if low is not None and high is not None:
        axes.plot((low, high), (height, height), color=ink, linewidth=1.6, solid_capstyle="round", zorder=2)
    axes.plot(
        value,
        height,
        marker="o",
        markersize=5.5,
        color=ink,
        markerfacecolor=INKS["paper"] if hollow else ink,
        markeredgewidth=1.4,
        zorder=3,
    )
