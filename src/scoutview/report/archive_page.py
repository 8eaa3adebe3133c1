"""The page of an archive: what `scoutview inspect` counted, with pictures (design section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoutview.report.curves import modality_inks
from scoutview.report.histograms import histogram_panel
from scoutview.report.template import Table, fill
from scoutview.report.wording import MISSING, MODALITY_NAMES, count, modality, quantity, series, storage

_SPLITS = ("train", "validation", "test")
_MOST_LABEL_VALUES = 8
_MOST_COPIES = 10


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, with what it shows; without one, the reason why."""

    uri: str
    alternative: str
    problem: str = ""


@dataclass(frozen=True)
class Tile:
    """Pictures that belong together, such as slices of a volume, above lines of text."""

    pictures: tuple[Thumbnail, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """Tiles, and what is to be said of those that are not there."""

    tiles: Sequence[Tile]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Bars:
    """How often values occur: (value, count, share of the longest bar), and a sentence on the others."""

    title: str
    rows: Sequence[tuple[str, str, float]]
    note: str


@dataclass(frozen=True)
class Refusal:
    """One reason of the quarantine. examples: (path, detail)."""

    reason: str
    files: str
    fix: str
    examples: Sequence[tuple[str, str]]
    sheet: Sheet


def write_archive_page(
    path: Path,
    store: str,
    content: Mapping[str, Any],
    sheets: Mapping[str, Sheet],
    examples: Mapping[str, Sequence[tuple[str, str]]],
    refused: Mapping[str, Sheet],
) -> Path:
    """Write one HTML file about a store; it needs no network and no script. Replaces `path` and returns it.

    content: what `scoutview inspect` returns with `html`. sheets: modality -> pictures. examples: reason -> files that
    were refused for it, with details; refused: reason -> pictures of some.
    """
    names = sorted(content["modalities"], key=lambda name: ([*MODALITY_NAMES, name].index(name), name))
    inks = modality_inks(names)
    return fill(
        "archive.html",
        path,
        title=f"Contents of {store}",
        subtitle=f"snapshot {content['snapshot']}" if names else "no image yet",
        sentences=_sentences(content, names),
        warnings=_warnings(content, sheets),
        facts=_facts(content, names),
        images=_images(content, names),
        splits=_splits(content, names),
        labels=_labels(content),
        flags=Table(
            "Flags: what a user of the images should know",
            ("flag", "images", "meaning"),
            [(name, count(row["images"]), row["meaning"]) for name, row in content["flags"].items()],
        ),
        modalities=[
            {
                "id": name,
                "name": modality(name)[:1].upper() + modality(name)[1:],
                "ink": inks[name],
                "images": count(content["modalities"][name]["images"]),
                "panels": [
                    histogram_panel(_named(histogram), inks[name], f"{name}-{number}-")
                    for number, histogram in enumerate(content["histograms"].get(name, []))
                ],
                "bars": _bars(content["common"].get(name, {})),
                "sheet": sheets.get(name, Sheet(())),
            }
            for name in names
        ],
        copies=_copies(content),
        leaks=_leaks(content),
        reasons=_reasons(content),
        refusals=[
            Refusal(
                reason,
                f"{count(row['files'])} file{'' if row['files'] == 1 else 's'}",
                row["fix"],
                examples.get(reason, ()),
                refused.get(reason, Sheet(())),
            )
            for reason, row in _by_files(content)
        ],
    )


def _named(histogram: Mapping[str, Any]) -> dict[str, Any]:
    """Intensities without a unit are said to have none."""
    arbitrary = histogram["name"] == "Intensity" and not histogram["unit"]
    return {**histogram, "name": "Intensity, arbitrary units"} if arbitrary else dict(histogram)


def _by_files(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(content["quarantine"].items(), key=lambda item: (-item[1]["files"], item[0]))


def _sentences(content: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    if not names:
        sentences = ["The store holds no image yet."]
    else:
        totals, modalities = content["totals"], content["modalities"]
        parts = [f"{count(modalities[name]['images'])} {modality(name)}" for name in names]
        volumes = sum(row["volumes"] for row in content["volumes"].values())
        decoded = sum(row["bytes_decoded"] for row in modalities.values())
        sentences = [
            f"{count(totals['images'])} images of {count(totals['patients'])} patients: {series(parts)}"
            + (f", {count(volumes)} volumes among them" if volumes else "")
            + f"; {storage(totals['bytes_on_disk'])} on disk, {storage(decoded)} once decoded."
        ]
    files = sum(row["files"] for row in content["quarantine"].values())
    if files:
        reason, row = _by_files(content)[0]
        of = files + content["totals"]["files"]
        sentences.append(
            f"{count(files)} of {count(of)} files ({files / of:.1%}) were refused, most often "
            f"as {reason} ({count(row['files'])})."
        )
    else:
        sentences.append("No file was refused.")
    return sentences


def _warnings(content: Mapping[str, Any], sheets: Mapping[str, Sheet]) -> list[str]:
    warnings = []
    leaks = content["leaks"]
    if leaks["patients"]:
        warnings.append(f"{count(leaks['patients'])} patients have images in more than one split: tests on them leak.")
    if leaks["same_pixels"]:
        warnings.append(
            f"{count(leaks['same_pixels'])} groups of images with equal pixels stand in more than one split: "
            "tests on them leak."
        )
    if leaks.get("near_pairs_across_splits"):
        warnings.append(f"{count(leaks['near_pairs_across_splits'])} pairs that look alike stand in different splits.")
    for name, row in content["modalities"].items():
        unknown = sum(part["images"] for units, part in row["intensity"].items() if units != "HU")
        if name == "ct" and unknown:
            warnings.append(f"{count(unknown)} of {count(row['images'])} CT images are not in Hounsfield units.")
    damaged = sum(
        bool(picture.problem) for sheet in sheets.values() for tile in sheet.tiles for picture in tile.pictures
    )
    if damaged:
        warnings.append(
            f"{count(damaged)} of the images that this page shows {'is' if damaged == 1 else 'are'} damaged: "
            "scoutview fsck looks at all of them."
        )
    return warnings


def _facts(content: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
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


def _images(content: Mapping[str, Any], names: Sequence[str]) -> Table:
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


def _splits(content: Mapping[str, Any], names: Sequence[str]) -> Table:
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


def _labels(content: Mapping[str, Any]) -> Table:
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


def _bars(common: Mapping[str, Any]) -> list[Bars]:
    """The lists that say anything: more than that nothing is known."""
    found = []
    for title, entry in common.items():
        values = entry["values"]
        if set(values) <= {""}:
            continue
        longest = max(values.values())
        others = ""
        if entry["other_values"]:
            others = f"{count(entry['other_images'])} images with {count(entry['other_values'])} other values"
        rows = [(value or "not stated", count(number), number / longest) for value, number in values.items()]
        found.append(Bars(title, rows, others))
    return found


def _copies(content: Mapping[str, Any]) -> Table:
    rows = [
        (row["example"], modality(row["modality"]), count(row["images"]), count(row["patients"]))
        for row in content["duplicates"][:_MOST_COPIES]
    ]
    more = sum(row["exact_duplicates"] for row in content["modalities"].values())
    caption = f"Equal pixels: {count(more)} images are copies of others"
    return Table(
        caption + ("; the largest groups" if rows else ""), ("one of them", "modality", "images", "patients"), rows
    )


def _leaks(content: Mapping[str, Any]) -> Table:
    names = {
        "patients": "patients",
        "same_pixels": "groups of images with equal pixels",
        "near_pairs": "pairs of images that look alike, anywhere",
        "near_pairs_across_patients": "of them, of different patients",
        "near_pairs_across_splits": "of them, in different splits",
    }
    rows = [(text, count(content["leaks"][key])) for key, text in names.items() if key in content["leaks"]]
    return Table("In more than one split", ("what", "number"), rows)


def _reasons(content: Mapping[str, Any]) -> Table:
    files = sum(row["files"] for row in content["quarantine"].values())
    of = files + content["totals"]["files"]
    rows = [(reason, count(row["files"]), f"{row['files'] / of:.2%}", row["fix"]) for reason, row in _by_files(content)]
    return Table("", ("reason", "files", "of all files", "what would accept them"), rows)
