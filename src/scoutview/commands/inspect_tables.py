"""The tables that `scoutview inspect` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scoutview.commands.terminal import cells, printable


def print_tables(content: dict[str, Any], store: Path) -> None:
    """Print what was counted: tables on a terminal, plain lines elsewhere."""
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
            for row in zip(*(column.cells for column in table.columns), strict=True):
                print("  " + " | ".join(str(cell) for cell in row))
    if "privacy" in content:
        report = content["privacy"]
        print(
            f"privacy: {report['values']} texts of {report['headers']} headers looked for in {report['bytes']} bytes: "
            f"{len(report['findings'])} found"
        )
        for item in report["findings"]:
            print(printable(f"  {item['element']} in {item['file']}"))
    if not content["modalities"]:
        print(f"{store} holds no image yet")


def _table(title: str, header: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=Text(printable(title)), title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*cells(*row))
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
        "; ".join(f"{part['low']:.4g}..{part['high']:.4g} {units}".strip() for units, part in row["intensity"].items()),
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
