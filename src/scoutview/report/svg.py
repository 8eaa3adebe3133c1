"""matplotlib figures as small inline SVG whose colours follow the page's light or dark mode.

Figures are drawn in marker colours, one per `Ink`; in the text of the SVG each becomes a CSS variable of the
page. Text stays text, so it can be read aloud, searched and takes the page's font.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Marker colour: CSS variable of style.css. The markers are arbitrary but must differ.
INKS = {
    "ink": "#010101",
    "quiet": "#020202",
    "grid": "#030303",
    "accent": "#040404",
    "xray": "#050505",
    "ct": "#060606",
    "mr": "#070707",
    "us": "#080808",
    "other-1": "#090909",
    "other-2": "#0a0a0a",
    "other-3": "#0b0b0b",
    "paper": "#0c0c0c",
}
SERIES = ("xray", "ct", "mr", "us", "other-1", "other-2", "other-3")
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scoutview",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.linewidth": 0.6,
    "path.simplify": True,
    "axes.unicode_minus": True,
    "text.parse_math": False,
}


def lying_rows(
    labels: Sequence[str], emphasized: Sequence[bool], longest: int, row: float, right: float, middle: float
) -> tuple[Figure, Axes]:
    """A figure whose rows have a label each, those that are no subject in a quiet ink, with a dashed line at `middle`.

    longest: characters of a label that are shown; row, right: height of a row and room on the right, in points.
    """
    width, height = 380.0, row * len(labels) + 38
    shown = [short(label, longest) for label in labels]
    drawing, axes = figure(width, height)
    left = 14 + 4.8 * max(map(len, shown))  # points of a character
    drawing.subplots_adjust(left=left / width, right=1 - right / width, bottom=32 / height, top=1 - 6 / height)
    axes.grid(visible=False, axis="y")
    axes.grid(color=INKS["grid"], linewidth=0.5, axis="x")
    axes.axvline(middle, color=INKS["quiet"], linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), shown, parse_math=False)
    for tick, subject in zip(axes.get_yticklabels(), emphasized, strict=True):
        tick.set_color(INKS["ink" if subject else "quiet"])
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    return drawing, axes


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one quiet pair of axes; sizes in points at full width on the page."""
    with matplotlib.rc_context(_STYLE):
        drawing = Figure(figsize=(width / 72, height / 72))
        FigureCanvasSVG(drawing)
        axes = drawing.add_subplot()
    drawing.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INKS["grid"])
    axes.tick_params(colors=INKS["quiet"], labelcolor=INKS["quiet"], length=2.5, width=0.6, labelsize=8.5)
    axes.grid(color=INKS["grid"], linewidth=0.5, axis="y")
    axes.set_axisbelow(True)
    return drawing, axes


def inline(drawing: Figure, alternative: str, prefix: str) -> Markup:
    """The figure as an <svg> element for HTML; `alternative` is read aloud, `prefix` makes its ids unique."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser's font draws the text; what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph")
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Its style rule holds for the whole page once inlined; style.css has it for figures only.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = _with_own_ids(text, prefix)
    names = {marker: name for name, marker in INKS.items()}
    text = re.sub(r"(?<=: )#0[0-9a-f]{5}(?=[;\"])", lambda found: f"var(--{names.get(found[0], 'ink')})", text)
    opening, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    label = Markup('role="img" aria-label="{}"').format(alternative)
    # A role and a label instead of namespaces, fixed sizes and version, which HTML does not want.
    return Markup(f"<svg {box.group() if box else ''} {label}>") + Markup(re.sub(r"\s*\n\s*", " ", body))


def short(label: str, longest: int) -> str:
    """A label for a figure, on one line and at most `longest` characters; tables hold the whole name."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in label).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _with_own_ids(text: str, prefix: str) -> str:
    """Drop ids that nothing refers to; two figures on a page would otherwise repeat them."""
    text = text.replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    return re.sub(r"url\(#", f"url(#{prefix}", text)
