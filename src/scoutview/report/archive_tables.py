"""The tables of an archive's page, from what `scoutview inspect` counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scoutview.report.template import Table
from scoutview.report.wording import MISSING, count, modality, quantity, storage

_SPLITS = ("train", "validation", "test")
_MOST_LABEL_VALUES = 8
_MOST_COPIES = 10


def facts_of(content: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    """The headline: name and value."""
    totals = content["totals"]
    return [
        ("images", count(totals["images"])),
        ("volumes", count(sum(row["volumes"] for row in content["volumes"].values()))),
        ("patients", count(totals["patients"])),
        ("series", count(sum(row["series"] for row in content["modalities"].values()))),
        ("modalities", count(len(names))),
        ("on disk", storage(totals["bytes_on_disk"])),
        ("files refused", count(sum(row["files"] for row in content["quarantine"].values()))),
    ]


def images_table(content: Mapping[str, Any], names: Sequence[str]) -> Table:
    """A row per modality."""
    rows = []
    for name in names:
        row, volumes = content["modalities"][name], content["volumes"].get(name)
        spacing = "unknown"
        if row["smallest_spacing"] is not None:
            spacing = _range(row["smallest_spacing"], row["largest_spacing"])
            spacing += f" ({count(row['without_spacing'])} unknown)" if row["without_spacing"] else ""
        rows.append(
            (
                modality(name),
                count(row["images"]),
                count(volumes["volumes"]) if volumes else MISSING,
                count(row["patients"]),
                count(row["series"]),
                _range(row["shortest_side"], row["longest_side"]),
                spacing,
                "; ".join(
                    f"{_range(part['low'], part['high'])} {units or 'arbitrary'}"
                    for units, part in row["intensity"].items()
                ),
                storage(row["bytes_on_disk"]),
                count(row["exact_duplicates"]),
            )
        )
    counted = ("modality", "images", "volumes", "patients", "series")
    return Table("", (*counted, "sides, px", "spacing, mm", "intensity", "on disk", "copies"), rows)


def _range(low: float, high: float) -> str:
    if low == high:
        return _signed(low)
    return f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    return quantity(value).replace("-", "−")


def flags_table(content: Mapping[str, Any]) -> Table:
    """Flags with their meaning."""
    rows = [(name, count(row["images"]), row["meaning"]) for name, row in content["flags"].items()]
    return Table("Flags: what a user of the images should know", ("flag", "images", "meaning"), rows)


def splits_table(content: Mapping[str, Any], names: Sequence[str]) -> Table:
    """Images and patients per modality and split."""
    rows = [
        (
            modality(name),
            *(_split(content["splits"].get(name, {}).get(split)) for split in _SPLITS),
        )
        for name in names
    ]
    return Table("Splits: images of patients", ("modality", *_SPLITS), rows)


def _split(row: Mapping[str, int] | None) -> str:
    return f"{count(row['images'])} of {count(row['patients'])}" if row else MISSING


def labels_table(content: Mapping[str, Any]) -> Table:
    """The most frequent values of each label, and boxes."""
    rows = []
    for name, modalities in content["labels"]["values"].items():
        for key, values in modalities.items():
            often = sorted(values, key=lambda value: (-values[value], value))
            shown = [f"{value or '(empty)'}: {count(values[value])}" for value in often[:_MOST_LABEL_VALUES]]
            more = [f"{count(len(often) - len(shown))} more values"] if len(often) > len(shown) else []
            rows.append((name, modality(key), count(sum(values.values())), ", ".join([*shown, *more])))
    for name, modalities in content["labels"]["boxes"].items():
        rows += [(name, modality(key), MISSING, f"{count(boxes)} boxes") for key, boxes in modalities.items()]
    return Table("Labels", ("label", "modality", "images", "images per value"), rows)


def copies_table(content: Mapping[str, Any]) -> Table:
    """The largest groups of images with equal pixels."""
    rows = [
        (row["example"], modality(row["modality"]), count(row["images"]), count(row["patients"]))
        for row in content["duplicates"][:_MOST_COPIES]
    ]
    more = sum(row["exact_duplicates"] for row in content["modalities"].values())
    caption = f"Equal pixels: {count(more)} images are copies of others"
    return Table(
        caption + ("; the largest groups" if rows else ""), ("one of them", "modality", "images", "patients"), rows
    )


def leaks_table(content: Mapping[str, Any]) -> Table:
    """What stands in more than one split."""
    names = {
        "patients": "patients",
        "same_pixels": "groups of images with equal pixels",
        "near_pairs": "pairs of images that look alike, anywhere",
        "near_pairs_across_patients": "of them, of different patients",
        "near_pairs_across_splits": "of them, in different splits",
    }
    rows = [(text, count(content["leaks"][key])) for key, text in names.items() if key in content["leaks"]]
    return Table("In more than one split", ("what", "number"), rows)


def by_files(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The reasons of the quarantine, the most frequent first."""
    return sorted(content["quarantine"].items(), key=lambda item: (-item[1]["files"], item[0]))


def reasons_table(content: Mapping[str, Any]) -> Table:
    """Files per reason, and what would accept them."""
    files = sum(row["files"] for row in content["quarantine"].values())
    of = files + content["totals"]["files"]
    rows = [(reason, count(row["files"]), f"{row['files'] / of:.2%}", row["fix"]) for reason, row in by_files(content)]
    return Table("", ("reason", "files", "of all files", "what would accept them"), rows)
