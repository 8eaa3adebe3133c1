"""What a fine-tuned model's page says of another that it was compared with: the `against` of evaluation.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from scoutview.report.read import listing, mapping, number
from scoutview.report.summary import MEASURES, short_encoder
from scoutview.report.template import Table
from scoutview.report.wording import count, estimate, score, signed

MOVED = {
    "median_change": "median |d|",
    "median_logit_change": "median |logit change|",
    "auc": "AUC",
    "auc_transformed": "AUC under transform",
}
HEADERS = ("this model", "the other", "difference", "p")


def compared(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the template shows of a comparison; None without one."""
    against = mapping(evaluation.get("against"))
    if not against:
        return None
    classes = mapping(against.get("per_class"))
    moved = mapping(against.get("robustness"))
    tables = [Table("", ("measure", *HEADERS), _rows(against.get("metrics"), MEASURES))]
    if len(classes) > 1:
        rows = [[label, *row] for label, figures in classes.items() for row in _rows(figures, MEASURES)]
        tables.append(Table("By class", ("class", "measure", *HEADERS), rows))
    if moved:
        told = f"{count(moved.get('cases'))} test cases under {count(moved.get('transforms'))} transforms"
        tables.append(Table(told, ("measure", *HEADERS), _rows(moved.get("metrics"), MOVED)))
    return {
        "name": PurePosixPath(str(against.get("run") or "another model").replace("\\", "/")).name,
        "encoder": short_encoder(against.get("encoder")),
        "tables": tables,
        "steps": _steps(mapping(against.get("convergence"))),
        "moved": bool(moved),
        "warnings": [str(warning) for warning in listing(against.get("warnings"))],
    }


def _rows(figures: Any, names: Mapping[str, str]) -> list[list[str]]:
    rows = []
    for name, entry in mapping(figures).items():
        entry = mapping(entry)
        measure, of, head = name.partition(" of ")  # of a further head
        rows.append(
            [
                f"{names.get(measure, measure)}{of}{head}",
                estimate(entry.get("this")),
                estimate(entry.get("other")),
                signed(entry.get("difference")),
                score(mapping(entry.get("difference")).get("p")),
            ]
        )
    return rows


def _steps(steps: Mapping[str, Any]) -> Table | None:
    """Steps by both definitions; None where they were not compared."""
    if not steps:
        return None
    never = "" if steps.get("reached") else " (never there: its last step)"
    own = mapping(steps.get("own_best"))
    rows = [
        ["the other's best", f"{count(steps.get('this'))}{never}", count(steps.get("other")), _share(steps)],
        ["its own best", count(own.get("this")), count(own.get("other")), _share(own)],
    ]
    caption = f"Steps to 98% of the best validation {steps.get('watched')}"
    return Table(caption, ("of", *HEADERS[:2], "saved"), rows)


def _share(steps: Mapping[str, Any]) -> str:
    saved = number(steps.get("saved"))
    return score(None) if saved is None else f"{saved:+.0%}"
