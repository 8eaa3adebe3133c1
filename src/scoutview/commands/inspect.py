"""`scoutview inspect`: what a store holds, and what it does not."""

from __future__ import annotations

from collections import Counter
from json import dumps
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from scoutview.commands.store_findings import flags_in, leaks_in, privacy_of, volumes_in
from scoutview.errors import RunError
from scoutview.files import finite
from scoutview.ingest import fix_of
from scoutview.store import Store, image_labels, read_annotations, split_of

_IMAGES = """
SELECT modality,
       count(*) AS images,
       count(DISTINCT patient) AS patients,
       count(DISTINCT NULLIF(series, '')) AS series,
       min(least(rows, columns)) AS shortest_side,
       max(greatest(rows, columns)) AS longest_side,
       min(row_spacing) AS smallest_spacing,
       max(row_spacing) AS largest_spacing,
       count(*) - count(row_spacing) AS without_spacing,
       min(low * slope + "offset") AS low,
       max(high * slope + "offset") AS high,
       avg(mean * slope + "offset") AS mean,
       string_agg(DISTINCT NULLIF(units, ''), ', ') AS units,
       sum(nbytes + spectrum_nbytes) AS bytes_on_disk,
       sum(2 * rows * columns) AS bytes_decoded,
       count(*) - count(DISTINCT pixel_sha256) AS exact_duplicates
FROM catalog GROUP BY modality ORDER BY modality
"""


def inspect(store: Path, *, near: bool = False, privacy: list[str] | None = None, json: bool = False) -> dict[str, Any]:
    """Show what a store holds: images, volumes, sizes, splits, labels, duplicates, leaks, quarantine.

    Args:
        store: Folder of the store.
        near: Look for images that look alike, too, and say which of them lie in different splits.
        privacy: Source files and folders: look for every text of their DICOM headers in every file of the store.
        json: End with one line of JSON for programs.

    Returns:
        The numbers of the tables.

    Raises:
        UsageError: The folder is no store, or one of another version.
        RunError: A table of the store is damaged, or the store holds a header value.
    """
    opened = Store.open(store)
    rows = opened.rows()
    content: dict[str, Any] = {
        "modalities": _modalities(opened),
        "volumes": volumes_in(rows),
        "flags": flags_in(rows),
        "splits": _splits(opened),
        "labels": _labels(opened),
        "duplicates": _duplicates(opened),
        "leaks": leaks_in(opened, rows, near),
        "quarantine": _quarantine(opened),
    }
    if privacy is not None:
        content["privacy"] = privacy_of(store, [Path(source) for source in privacy])
    _print(content, store)
    if json:
        print(dumps(finite(content), allow_nan=False), flush=True)
    if content.get("privacy", {}).get("findings"):
        found = content["privacy"]["findings"]
        raise RunError(
            f"{store} holds {len(found)} values of source headers (first: {found[0]['element']} in {found[0]['file']}):"
            " do not share it; quarantine.parquet lists source paths, and may be removed when its files are settled"
        )
    return content


def _query(store: Store, sql: str) -> list[dict[str, Any]]:
    """Rows of a query over the table `catalog`."""
    with duckdb.connect() as connection:
        connection.register("catalog", store.catalog())
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _modalities(store: Store) -> dict[str, dict[str, Any]]:
    found = {row.pop("modality"): row for row in _query(store, _IMAGES)}
    for row in found.values():
        row["bytes_on_disk"], row["bytes_decoded"] = int(row["bytes_on_disk"]), int(row["bytes_decoded"])
        row["units"] = row["units"] or ""
    return found


def _splits(store: Store) -> dict[str, dict[str, dict[str, int]]]:
    """modality -> split -> images and patients, with the splits that annotations give."""
    rows = store.rows()
    splits = split_of(rows, read_annotations(store))
    images = Counter((row.modality, splits[row.image]) for row in rows)
    patients = Counter((modality, split) for modality, split, _ in
                       {(row.modality, splits[row.image], row.patient): None for row in rows})  # fmt: skip
    content: dict[str, dict[str, dict[str, int]]] = {}
    for modality, split in sorted(images):
        content.setdefault(modality, {})[split] = {
            "images": images[modality, split],
            "patients": patients[modality, split],
        }
    return content


def _labels(store: Store) -> dict[str, dict[str, Any]]:
    """label -> modality -> value -> images; boxes -> modality -> name -> boxes."""
    rows = {row.image: row for row in store.rows()}
    annotations = read_annotations(store)
    labels: dict[str, dict[str, dict[str, int]]] = {}
    for name, values in image_labels(annotations, rows.values()).items():
        counts = Counter((rows[image].modality, value) for image, value in values.items())
        for modality, value in sorted(counts):
            labels.setdefault(name, {}).setdefault(modality, {})[value] = counts[modality, value]
    boxes = Counter(
        (item.name, rows[item.target].modality)
        for item in annotations
        if item.kind == "box" and item.x is not None and item.target in rows
    )
    return {
        "values": labels,
        "boxes": {name: {m: n for (other, m), n in sorted(boxes.items()) if other == name} for name, _ in boxes},
    }


def _duplicates(store: Store) -> list[dict[str, Any]]:
    """Groups of images with the same pixels, the largest first; at most 20."""
    return _query(
        store,
        """
        SELECT pixel_sha256, modality, count(*) AS images, count(DISTINCT patient) AS patients,
               min(image) AS example
        FROM catalog GROUP BY pixel_sha256, modality HAVING count(*) > 1
        ORDER BY images DESC, pixel_sha256 LIMIT 20
        """,
    )


def _quarantine(store: Store) -> dict[str, dict[str, Any]]:
    entries = sorted(store.quarantined(), key=lambda entry: (entry["reason"], entry["path"]))
    counts = Counter(entry["reason"] for entry in entries)
    content: dict[str, dict[str, Any]] = {}
    for entry in entries:
        reason = entry["reason"]
        content.setdefault(
            reason,
            {"files": counts[reason], "example": entry["path"], "detail": entry["detail"], "fix": fix_of(reason)},
        )
    return content


def _print(content: dict[str, Any], store: Path) -> None:
    tables = [
        _table(
            f"images of {store}",
            [
                "modality",
                "images",
                "patients",
                "series",
                "sides px",
                "spacing mm",
                "intensity",
                "MB",
                "ratio",
                "copies",
            ],
            [_image_cells(name, row) for name, row in content["modalities"].items()],
        ),
        _table(
            "splits",
            ["modality", "split", "images", "patients"],
            [
                [modality, split, str(row["images"]), str(row["patients"])]
                for modality, splits in content["splits"].items()
                for split, row in splits.items()
            ],
        ),
        _table(
            "labels",
            ["label", "modality", "images per value"],
            [
                [name, modality, _values_cell(values)]
                for name, modalities in content["labels"]["values"].items()
                for modality, values in modalities.items()
            ]
            + [
                [name, modality, f"{number} boxes"]
                for name, modalities in content["labels"]["boxes"].items()
                for modality, number in modalities.items()
            ],
        ),
        _table(
            "volumes",
            ["modality", "volumes", "slices", "mm between slices", "uneven"],
            [_volume_cells(name, row) for name, row in content["volumes"].items()],
        ),
        _table(
            "flags",
            ["flag", "images", "meaning"],
            [[flag, str(row["images"]), row["meaning"]] for flag, row in content["flags"].items()],
        ),
        _table(
            "in more than one split",
            ["what", "count"],
            [
                [name.replace("_", " "), str(count)]
                for name, count in content["leaks"].items()
                if name != "near_examples"
            ],
        ),
        _table(
            "same pixels",
            ["example", "modality", "images", "patients"],
            [
                [row["example"], row["modality"], str(row["images"]), str(row["patients"])]
                for row in content["duplicates"]
            ],
        ),
        _table(
            "quarantine",
            ["reason", "files", "example", "what would accept it"],
            [
                [reason, str(row["files"]), f"{row['example']} ({row['detail']})", row["fix"]]
                for reason, row in content["quarantine"].items()
            ],
        ),
    ]
    console = Console()
    for table in tables:
        if table.row_count and console.is_terminal:
            console.print(table)
        elif table.row_count:
            print(f"{table.title}: {' | '.join(str(column.header) for column in table.columns)}")
            for cells in zip(*(column.cells for column in table.columns), strict=True):
                print("  " + " | ".join(str(cell) for cell in cells))
    if "privacy" in content:
        report = content["privacy"]
        print(
            f"privacy: {report['values']} texts of {report['headers']} headers looked for in {report['bytes']} bytes: "
            f"{len(report['findings'])} found"
        )
        for item in report["findings"]:
            print(f"  {item['element']} in {item['file']}")
    if not content["modalities"]:
        print(f"{store} holds no image yet")


def _table(title: str, header: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _image_cells(modality: str, row: dict[str, Any]) -> list[str]:
    spacing = "unknown"
    if row["smallest_spacing"] is not None:
        spacing = f"{row['smallest_spacing']:.3g}..{row['largest_spacing']:.3g}"
        spacing += f" ({row['without_spacing']} unknown)" if row["without_spacing"] else ""
    return [
        modality,
        str(row["images"]),
        str(row["patients"]),
        str(row["series"]),
        f"{row['shortest_side']}..{row['longest_side']}",
        spacing,
        f"{row['low']:.4g}..{row['high']:.4g} {row['units']}".strip(),
        f"{row['bytes_on_disk'] / 1e6:.1f}",
        f"{row['bytes_decoded'] / row['bytes_on_disk']:.2f}",
        str(row["exact_duplicates"]),
    ]


def _volume_cells(modality: str, row: dict[str, Any]) -> list[str]:
    spacing = "unknown"
    if row["smallest_spacing"] is not None:
        spacing = f"{row['smallest_spacing']:.3g}..{row['largest_spacing']:.3g}"
    slices = f"{row['fewest_slices']}..{row['most_slices']} (median {row['median_slices']:g})"
    return [modality, str(row["volumes"]), slices, spacing, str(row["uneven"])]


def _values_cell(values: dict[str, int]) -> str:
    shown = sorted(values, key=lambda value: -values[value])[:8]
    text = ", ".join(f"{value}: {values[value]}" for value in shown)
    return f"{text}, and {len(values) - len(shown)} more" if len(values) > len(shown) else text
