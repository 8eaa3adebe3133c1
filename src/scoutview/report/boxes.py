"""Box plots side by side on one axis, from the numbers of `scoutview.metrics.box_plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from scoutview.report.svg import INKS, inline, lying_rows

_ROW = 26.0  # points
_LONGEST_LABEL = 24


@dataclass(frozen=True)
class Box:
    """A row: its label, the numbers of its box plot, whether it is the subject."""

    label: str
    numbers: Mapping[str, float]
    emphasized: bool


def box_plots(rows: Sequence[Box], measure: str, prefix: str, span: tuple[float, float]) -> Markup:
    """The rows as lying boxes over `span`; whiskers and medians as `box_plot` gives them, in percent."""
    labels, subjects = [row.label for row in rows], [row.emphasized for row in rows]
    drawing, axes = lying_rows(labels, subjects, _LONGEST_LABEL, _ROW, 18.0, 0.0)
    for place, row in enumerate(rows):
        ink, numbers = INKS["accent" if row.emphasized else "quiet"], row.numbers
        first, third = numbers["first_quartile"], numbers["third_quartile"]
        for ends in ((numbers["low"], first), (third, numbers["high"])):
            axes.plot(ends, (place, place), color=ink, linewidth=1.2, zorder=2)
        axes.barh(place, third - first, 0.5, first, color=INKS["paper"], edgecolor=ink, linewidth=1.2, zorder=3)
        axes.plot([numbers["median"]] * 2, (place - 0.25, place + 0.25), color=ink, linewidth=2.2, zorder=4)
    axes.set_xlim(*span)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.0%}" if value else "0"))
    axes.set_xlabel(measure, fontsize=8.5, color=INKS["quiet"], labelpad=2)
    told = "; ".join(
        f"{row.label}: median {row.numbers['median']:+.1%}, quartiles {row.numbers['first_quartile']:+.1%} and "
        f"{row.numbers['third_quartile']:+.1%}"
        for row in rows
    )
    return inline(drawing, f"{measure}. {told}", prefix)


def common_reach(rows: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """One axis for all plots of a page: every whisker and 0, with some air."""
    ends = [0.0, *(numbers[key] for numbers in rows for key in ("low", "high"))]
    air = 0.04 * (max(ends) - min(ends)) or 0.01
    return min(ends) - air, max(ends) + air
