"""Box plots side by side on one axis, from the numbers of `scoutview.metrics.box_plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scoutview.report.svg import INKS, figure, inline, short

_ROW, _WIDTH = 26.0, 380.0  # points
_CHARACTER = 4.8
_LONGEST_LABEL = 24


@dataclass(frozen=True)
class Box:
    """A row: its label, the numbers of its box plot, whether it is the subject."""

    label: str
    numbers: Mapping[str, float]
    emphasized: bool


def box_plots(rows: Sequence[Box], measure: str, prefix: str, span: tuple[float, float]) -> Markup:
    """The rows as lying boxes over `span`; whiskers and medians as `box_plot` gives them, in percent."""
    height = _ROW * len(rows) + 38
    drawing, axes = figure(_WIDTH, height)
    left = 14 + _CHARACTER * max(len(short(row.label, _LONGEST_LABEL)) for row in rows)
    drawing.subplots_adjust(left=left / _WIDTH, right=1 - 18 / _WIDTH, bottom=32 / height, top=1 - 6 / height)
    axes.grid(visible=False, axis="y")
    axes.grid(color=INKS["grid"], linewidth=0.5, axis="x")
    axes.axvline(0.0, color=INKS["quiet"], linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for place, row in enumerate(rows):
        ink, numbers = INKS["accent" if row.emphasized else "quiet"], row.numbers
        first, third = numbers["first_quartile"], numbers["third_quartile"]
        for ends in ((numbers["low"], first), (third, numbers["high"])):
            axes.plot(ends, (place, place), color=ink, linewidth=1.2, zorder=2)
        axes.barh(place, third - first, 0.5, first, color=INKS["paper"], edgecolor=ink, linewidth=1.2, zorder=3)
        axes.plot([numbers["median"]] * 2, (place - 0.25, place + 0.25), color=ink, linewidth=2.2, zorder=4)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [short(row.label, _LONGEST_LABEL) for row in rows], parse_math=False)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(INKS["ink" if row.emphasized else "quiet"])
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(*span)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
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
