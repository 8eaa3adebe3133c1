"""The page of an archive: what `scoutview inspect` counted, with pictures (design section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoutview.report.archive_tables import (
    by_files,
    copies_table,
    facts_of,
    flags_table,
    images_table,
    labels_table,
    leaks_table,
    reasons_table,
    splits_table,
)
from scoutview.report.curves import modality_inks
from scoutview.report.histograms import histogram_panel
from scoutview.report.template import fill
from scoutview.report.wording import MODALITY_NAMES, count, counted, modality, series, storage


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
        facts=facts_of(content, names),
        images=images_table(content, names),
        splits=splits_table(content, names),
        labels=labels_table(content),
        flags=flags_table(content),
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
        copies=copies_table(content),
        leaks=leaks_table(content),
        reasons=reasons_table(content),
        refusals=[
            Refusal(
                reason,
                counted(row["files"], "file"),
                row["fix"],
                examples.get(reason, ()),
                refused.get(reason, Sheet(())),
            )
            for reason, row in by_files(content)
        ],
    )


def _named(histogram: Mapping[str, Any]) -> dict[str, Any]:
    """Intensities without a unit are said to have none."""
    arbitrary = histogram["name"] == "Intensity" and not histogram["unit"]
    return {**histogram, "name": "Intensity, arbitrary units"} if arbitrary else dict(histogram)


def _sentences(content: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    if not names:
        sentences = ["The store holds no image yet."]
    else:
        totals, modalities = content["totals"], content["modalities"]
        parts = [f"{count(modalities[name]['images'])} {modality(name)}" for name in names]
        volumes = sum(row["volumes"] for row in content["volumes"].values())
        decoded = sum(row["bytes_decoded"] for row in modalities.values())
        sentences = [
            f"{counted(totals['images'], 'image')} of {counted(totals['patients'], 'patient')}: {series(parts)}"
            + (f", {counted(volumes, 'volume')} among them" if volumes else "")
            + f"; {storage(totals['bytes_on_disk'])} on disk, {storage(decoded)} once decoded."
        ]
    files = sum(row["files"] for row in content["quarantine"].values())
    if files:
        reason, row = by_files(content)[0]
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
        warnings.append(
            f"{counted(leaks['patients'], 'patient')} with images in more than one split: tests on them leak."
        )
    if leaks["same_pixels"]:
        warnings.append(
            f"{counted(leaks['same_pixels'], 'group')} of images with equal pixels in more than one split: "
            "tests on them leak."
        )
    if leaks.get("near_pairs_across_splits"):
        warnings.append(
            f"{counted(leaks['near_pairs_across_splits'], 'pair')} of images that look alike in different splits."
        )
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
