"""What `scoutview evaluate --against` shows on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scoutview.commands.terminal import cells, printable


def show_comparison(console: Console, against: Mapping[str, Any]) -> None:
    """The figures of both models and their differences; steps; warnings. against: as in evaluation.json."""
    name = printable(Path(against["run"]).name)
    console.print(_differences(f"against {name}", against["metrics"]))
    if "robustness" in against:
        moved = against["robustness"]
        title = f"{moved['cases']} cases under {moved['transforms']} transforms"
        console.print(_differences(title, moved["metrics"]))
    steps = against["convergence"]
    if steps:
        own = steps["own_best"]
        reached = "" if steps["reached"] else " (never there: counted with its last step)"
        console.print(
            f"steps to 98% of the best validation {steps['watched']} of {name}: {steps['this']}{reached} against "
            f"{steps['other']}, {steps['saved']:+.0%} saved; each to 98% of its own best: {own['this']} against "
            f"{own['other']}, {own['saved']:+.0%} saved",
            highlight=False,
            markup=False,
        )
    for warning in against["warnings"]:
        console.print(f"warning: {warning}", highlight=False, markup=False)


def _differences(title: str, figures: Mapping[str, Any]) -> Table:
    table = Table("figure", "this", "other", "difference", "95% interval", "p", title=Text(title))
    for name, entry in figures.items():
        one = entry["difference"]
        values = f"{entry['this']['value']:.3f}", f"{entry['other']['value']:.3f}", f"{one['value']:+.3f}"
        table.add_row(*cells(name, *values, f"{one['low']:+.3f} to {one['high']:+.3f}", f"{one['p']:.3f}"))
    return table
