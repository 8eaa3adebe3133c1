"""Histograms of a store's images for the page of `scoutview inspect`: round edges, exact counts, all in SQL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from scoutview.commands.store_tables import rows_of_query

WIDE = 30
"""High over low from which edges grow by a factor instead of a step."""
_MOST_BINS = 30
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
# Preferred numbers (ISO 3), as many per decade as there is room for.
_DECADES = (
    (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0),
    (1.0, 1.6, 2.5, 4.0, 6.3),
    (1.0, 2.0, 5.0),
    (1.0,),
)
_COMMON = 8
"""Values that are listed, the most frequent ones."""


@dataclass(frozen=True)
class Measure:
    """One histogram. lines: label -> SQL of its values in `table`; unit: "" for plain numbers."""

    name: str
    unit: str
    table: str
    lines: dict[str, str]
    what: str = "images"
    group: str = "''"


MEASURES = (
    Measure("Longest side", "px", "catalog", {"": "greatest(rows, columns)"}),
    Measure("Pixel spacing", "mm", "catalog", {"": "row_spacing"}),
    Measure("Slices per volume", "", "volumes", {"": "slices"}, "volumes"),
    Measure("Slice spacing", "mm", "volumes", {"": "slice_spacing"}, "volumes"),
    Measure(
        "Intensity",
        "",
        "catalog",
        {
            "0.5% percentile": 'low * slope + "offset"',
            "mean": 'mean * slope + "offset"',
            "99.5% percentile": 'high * slope + "offset"',
        },
        group="units",
    ),
)
"""Slices per volume and slice spacing count volumes, not images; intensities of different units stay apart."""

COMMON = {
    "Rows × columns": ("rows, columns", "rows || ' × ' || columns"),
    "Body part": ("body_part", "body_part"),
    "View": ("view", "view"),
    "Vendor": ("manufacturer", "manufacturer"),
    "Read from": ("source_format", "source_format"),
}
"""What is listed by its most frequent values: title -> SQL of what is counted, and of its text."""


def histograms_of(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, Any]]]:
    """modality -> histograms. A bin holds what is above its lower edge, up to its upper one.

    The edges span the middle 99% of the values; `below` and `above` count what lies beyond them. Edges are empty where
    all values are equal. Needs the tables of `counts_of`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for measure in MEASURES:
        for modality, group, spans in _spans(connection, measure):
            found.setdefault(modality, []).append(_histogram(connection, measure, modality, group, spans))
    return {modality: found[modality] for modality in sorted(found)}


def common_values(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, dict[str, Any]]]:
    """modality -> title -> its most frequent values with their images; how many other values and images there are."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for title, (counted, text) in COMMON.items():
        sql = f"""
        WITH counted AS (SELECT modality, {counted}, count(*) AS images FROM catalog GROUP BY ALL),
             told AS (SELECT modality, {text} AS value, images FROM counted)
        SELECT *, row_number() OVER (PARTITION BY modality ORDER BY images DESC, value) AS place FROM told
        ORDER BY modality, place
        """
        for row in rows_of_query(connection, sql):
            entry = found.setdefault(row["modality"], {}).setdefault(
                title, {"values": {}, "other_values": 0, "other_images": 0}
            )
            if row["place"] <= _COMMON:
                entry["values"][row["value"]] = row["images"]
            else:
                entry["other_values"] += 1
                entry["other_images"] += row["images"]
    return found


def files_taken(connection: duckdb.DuckDBPyConnection) -> int:
    """Source files of which the store holds images."""
    (row,) = rows_of_query(connection, "SELECT count(DISTINCT hash(file_key)) AS files FROM catalog")
    files: int = row["files"]
    return files


def edges_between(low: float, middle: float, high: float, whole: bool) -> list[float]:
    """Round edges of at most 30 bins that hold low..high; empty when these are equal.

    They are a round step apart; or, where the values span more than a factor of 30, a round factor.
    """
    if high <= low:
        return []
    if low > 0 and high / low >= WIDE:
        return _growing(low, high)
    if low == 0 and middle > 0 and high / middle >= WIDE:
        grown = _growing(high / 10**4, high)
        return [-grown[0], 0.0, *grown]
    width = (high - low) / 20
    power = 10.0 ** math.floor(math.log10(width))
    step = next(power * factor for factor in _STEPS if power * factor >= width * (1 - 1e-9))
    step = max(1.0, round(step)) if whole else step
    first, last = math.ceil(low / step) - 1, math.ceil(high / step)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _growing(low: float, high: float) -> list[float]:
    """Preferred numbers from one below `low` to one at or above `high`."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for numbers in _DECADES:
        marks = [float(f"{number * 10.0**decade:.12g}") for decade in decades for number in numbers]
        begin = max(place for place, mark in enumerate(marks) if mark < low)
        end = next(place for place, mark in enumerate(marks) if mark >= high)
        if end - begin <= _MOST_BINS:
            break
    return marks[begin : end + 1]


def _spans(
    connection: duckdb.DuckDBPyConnection, measure: Measure
) -> list[tuple[str, str, dict[str, tuple[int, list[float]]]]]:
    """(modality, units, label -> (known values, their 0.5%, 50% and 99.5% percentiles)), for what has any."""
    columns = ", ".join(
        f"count({sql}) AS known_{number}, quantile_disc(({sql})::DOUBLE, [0.005, 0.5, 0.995]) AS span_{number}"
        for number, sql in enumerate(measure.lines.values())
    )
    rows = rows_of_query(
        connection,
        f"SELECT modality, {measure.group} AS units, {columns} FROM {measure.table} GROUP BY ALL ORDER BY ALL",
    )
    return [
        (
            row["modality"],
            row["units"],
            {label: (row[f"known_{n}"], row[f"span_{n}"]) for n, label in enumerate(measure.lines)},
        )
        for row in rows
        if row["known_0"]
    ]


def _histogram(
    connection: duckdb.DuckDBPyConnection,
    measure: Measure,
    modality: str,
    units: str,
    spans: dict[str, tuple[int, list[float]]],
) -> dict[str, Any]:
    low = min(span[0] for _, span in spans.values())
    high = max(span[2] for _, span in spans.values())
    middle = max(span[1] for _, span in spans.values())
    edges = edges_between(low, middle, high, whole=measure.unit in ("", "px") and measure.table != "catalog")
    counted = ", ".join(
        f"histogram(({sql})::DOUBLE, {edges or [low]}::DOUBLE[]) AS line_{number}"
        for number, sql in enumerate(measure.lines.values())
    )
    sql = f"SELECT count(*) AS all_values, {counted} FROM {measure.table} WHERE modality = ? AND {measure.group} = ?"
    (row,) = rows_of_query(connection, sql, modality, units)
    return {
        "name": measure.name,
        "unit": measure.unit or units,
        "what": measure.what,
        "unknown": row["all_values"] - next(iter(spans.values()))[0],
        "edges": edges,
        "lines": [
            _line(label, edges, spans[label], row[f"line_{number}"]) for number, label in enumerate(measure.lines)
        ],
    }


def _line(
    label: str, edges: Sequence[float], span: tuple[int, list[float]], counts: dict[float, int]
) -> dict[str, Any]:
    known, (_, median, _) = span
    bins = [counts.get(edge, 0) for edge in edges[1:]]
    below = counts.get(edges[0], 0) if edges else 0
    return {
        "label": label,
        "known": known,
        "median": median,
        "below": below,
        "above": known - below - sum(bins) if edges else 0,
        "counts": bins,
    }
