"""Histograms as small panels, from counts between given edges; bins are drawn equally wide, whatever their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scoutview.report.curves import Panel
from scoutview.report.svg import INKS, figure, inline
from scoutview.report.wording import count

_HEIGHT, _WIDTH = 140.0, 265.0  # points
_MOST_TICKS = 6
_OUTLINES: tuple[Any, ...] = ((0, (1.5, 1.5)), "-")


def histogram_panel(histogram: Mapping[str, Any], ink: str, prefix: str) -> Panel:
    """One measure of one modality. Of three lines the middle one is filled, the others are outlines.

    histogram: name, unit, what is counted, edges, how many have no value (unknown), and lines, each with its label,
    known values, median, counts per bin, and how many values lie below and above the edges.
    """
    unit, lines = histogram["unit"], histogram["lines"]
    title = histogram["name"] + (f", {unit}" if unit else "")
    note = _note(histogram)
    if not histogram["edges"]:
        return Panel(title, note, Markup())
    return Panel(
        title, note, inline(_drawn(histogram["edges"], lines, histogram["what"], ink), _told(histogram), prefix)
    )


def mark(value: float) -> str:
    """A round figure of an axis: 0.25, 1,000, −200."""
    return f"{value:,.10g}".replace("-", "−")


def _note(histogram: Mapping[str, Any]) -> str:
    lines, edges = histogram["lines"], histogram["edges"]
    filled = lines[len(lines) // 2]
    unit = f" {histogram['unit']}" if histogram["unit"] else ""
    if not edges:
        parts = [f"All {count(filled['known'])} {histogram['what']}: {_figure(filled['median'])}{unit}"]
    elif len(lines) == 1:
        parts = [f"Median {_figure(filled['median'])}{unit}"]
    else:
        parts = [
            f"Of each image the mean (filled; median {_figure(filled['median'])}{unit}), "
            "its 0.5% percentile (dotted) and its 99.5% percentile (line)"
        ]
    if histogram["unknown"]:
        parts.append(f"{count(histogram['unknown'])} unknown")
    beyond = sum(line["below"] + line["above"] for line in lines)
    if beyond:
        parts.append(f"{count(beyond)} value{'' if beyond == 1 else 's'} beyond this axis")
    return "; ".join(parts) + "."


def _figure(value: float) -> str:
    return f"{value:,.4g}".replace("-", "−") if abs(value) < 10_000 else f"{value:,.0f}".replace("-", "−")


def _told(histogram: Mapping[str, Any]) -> str:
    """Every bin that is not empty, for those who cannot see it."""
    edges = [mark(edge) for edge in histogram["edges"]]
    told = []
    for line in histogram["lines"]:
        bins = [
            f"above {low} up to {high}: {count(number)}"
            for low, high, number in zip(edges, edges[1:], line["counts"], strict=False)
            if number
        ]
        told.append(f"{line['label'] + ', ' if line['label'] else ''}{'; '.join(bins)}")
    unit = f" in {histogram['unit']}" if histogram["unit"] else ""
    return f"{histogram['name']}{unit}, number of {histogram['what']}. {'. '.join(told)}"


def _drawn(edges: Sequence[float], lines: Sequence[Mapping[str, Any]], what: str, ink: str) -> Any:
    drawing, axes = figure(_WIDTH, _HEIGHT)
    drawing.subplots_adjust(left=44 / _WIDTH, right=1 - 12 / _WIDTH, bottom=22 / _HEIGHT, top=1 - 8 / _HEIGHT)
    places = list(range(len(edges)))
    middle = len(lines) // 2
    axes.stairs(lines[middle]["counts"], places, fill=True, color=INKS[ink], alpha=0.75 if len(lines) > 1 else 1.0)
    for line, dashes in zip([line for line in lines if line is not lines[middle]], _OUTLINES, strict=False):
        axes.stairs(line["counts"], places, color=INKS["ink"], linewidth=1.0, linestyle=dashes)
    axes.set_xlim(0, len(edges) - 1)
    axes.set_ylim(bottom=0)
    ticks = _ticks(edges)
    axes.set_xticks(ticks, [mark(edges[place]) for place in ticks])
    _count_axis(axes, what)
    return drawing


def _count_axis(axes: Axes, what: str) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_count(value)))
    axes.set_ylabel(what, fontsize=8.5, color=INKS["quiet"], labelpad=3)


def _short_count(value: float) -> str:
    for size, name in ((1e9, " bn"), (1e6, " m"), (1e3, "k")):
        if value >= 10 * size or (value >= size and size > 1e3):
            return f"{value / size:g}{name}"
    return f"{value:,.0f}"


def _ticks(edges: Sequence[float]) -> list[int]:
    """Places of a few edges: powers of ten where there are several, else every second, fifth or tenth of them."""
    tens = [place for place, edge in enumerate(edges) if edge > 0 and f"{edge:e}".startswith("1.000000e")]
    growing = edges[-1] - edges[-2] > 1.5 * (edges[1] - edges[0])
    if growing and 3 <= len(tens) <= _MOST_TICKS + 1:
        return tens
    if growing:
        step = -(-len(edges) // _MOST_TICKS)
        return list(range(0, len(edges), step))
    width = edges[1] - edges[0]
    step = next(step for step in (1, 2, 4, 5, 10, 20) if len(edges) / step <= _MOST_TICKS)
    return [place for place, edge in enumerate(edges) if round(edge / width) % step == 0]
