"""The page of an atlas: prototypes as rows of pictures, a map, outliers and copies; all figures are of atlas.json."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scoutview.report.atlas_data import ID_SIGNS, data_of
from scoutview.report.curves import modality_inks
from scoutview.report.sprites import place, sheets
from scoutview.report.template import fill, read_part
from scoutview.report.wording import count, counted, modality, score, series

MOST_GROUPS = 100
"""Rows of pictures of a modality; the largest groups."""
MOST_PAIRS = 200


@dataclass(frozen=True)
class Cell:
    """A small picture: number of the image, its place on the sheets, what is read aloud."""

    image: int
    sheet: int
    column: int
    row: int
    words: str


@dataclass(frozen=True)
class Group:
    """A row of pictures."""

    name: str
    size: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Gallery:
    """The groups of a modality. ink: of its colour; note: what they are, and what is not shown."""

    id: str
    name: str
    ink: str
    images: str
    note: str
    groups: Sequence[Group]


@dataclass(frozen=True)
class Choice:
    """Pictures that can be selected. cells: of which `chosen`, 0 or 1, would be left out; lines: beside them."""

    cells: Sequence[Cell]
    chosen: int
    selected: bool
    lines: Sequence[str]


def write_atlas_page(path: Path, content: Mapping[str, Any], pictures: NDArray[np.uint8]) -> Path:
    """Write one HTML file that needs no network. Replaces `path` and returns it.

    content: of atlas.json, see `scoutview atlas`; pictures [image, row, column] as `sprites.cell` makes them.
    """
    script = read_part("atlas.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    store = content["store"]
    return fill(
        "atlas.html",
        path,
        title=f"Atlas of {store['name']}",
        subtitle=f"snapshot {store['snapshot']}, seen by {content['encoder']['run']} ({content['encoder']['name']})",
        digest=digest,
        script=Markup(script),
        own_style=Markup(read_part("atlas.css")),
        sentences=list(_sentences(content)),
        map_words=content["map"]["words"],
        galleries=[_gallery(gallery, content, number) for number, gallery in enumerate(content["galleries"])],
        outliers=[_outlier(entry, content) for entry in content["outliers"]],
        pairs=_pairs(content),
        pairs_note=_pairs_note(content),
        sheets=list(sheets(pictures)),
        data=data_of(content),
    )


def _sentences(content: Mapping[str, Any]) -> Iterator[str]:
    held = content["columns"]["modality"]
    parts = [f"{count(held.count(name))} {modality(name)}" for name in dict.fromkeys(held)]
    yield f"{counted(len(held), 'image')}: {series(parts)}."
    missing = len(content["damaged"])
    if content["images_in_store"] > len(held) + missing:
        yield f"They were taken evenly from the {count(content['images_in_store'])} of the store."
    if missing:
        yield f"{counted(missing, 'image')} could not be read and {'is' if missing == 1 else 'are'} left out."
    hidden = len(content["images"]["hidden"])
    if hidden:
        yield f"Not shown: {counted(hidden, 'image')} flagged text_unknown, whose pixels may name a patient."


def _cell(image: int, content: Mapping[str, Any], words: str) -> Cell:
    name = modality(content["columns"]["modality"][image])
    return Cell(image, *place(image), f"{name} image {content['images']['image'][image][:ID_SIGNS]}, {words}")


def _gallery(gallery: Mapping[str, Any], content: Mapping[str, Any], number: int) -> Gallery:
    names = gallery["name"].split("+")
    learnt = gallery["kind"] == "prototypes"
    what = "Prototype" if learnt else "Cluster"
    rows = [
        Group(
            f"{what} {group['number']}",
            counted(group["images"], "image"),
            [
                _cell(image, content, f"cosine {score(cosine)}")
                for image, cosine in zip(group["nearest"], group["cosines"], strict=True)
            ],
        )
        for group in gallery["groups"][:MOST_GROUPS]
    ]
    used, total = len(gallery["groups"]), gallery["count"]
    note = (
        f"{count(used)} of {counted(total, 'prototype')} have images; each image belongs to the one with the largest "
        "cosine to its projection."
        if learnt
        else f"{gallery['why']} These are {counted(used, 'cluster')} of k-means on the unit features (seed 0)."
    )
    if used > MOST_GROUPS:
        note += f" The {MOST_GROUPS} largest are shown, atlas.json has all."
    ink = modality_inks(names)[names[0]] if len(names) == 1 else "accent"
    title = series([modality(name) for name in names])
    return Gallery(f"gallery-{number}", title[:1].upper() + title[1:], ink, count(gallery["images"]), note, rows)


def _outlier(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Choice:
    told = {"density": "few images near it", "prototype": "far from every prototype or cluster"}
    words = series([told[measure] for measure in entry["measures"]])
    lines = [
        words,
        f"mean cosine to its neighbours {score(entry['density'])}",
        f"cosine to the nearest {score(entry['closeness'])}",
    ]
    return Choice([_cell(entry["image"], content, words)], 0, False, lines)


def _pairs(content: Mapping[str, Any]) -> list[Choice]:
    near = content["near_duplicates"]
    leaves = {entry["image"] for entry in near["left_out"]}
    choices = []
    for pair in near["pairs"][:MOST_PAIRS]:
        both = (pair["first"], pair["second"])
        chosen = 1 if both[1] in leaves else 0
        splits = [content["columns"]["split"][image] for image in both]
        lines = [
            f"correlation {score(pair['correlation'])}, {pair['bits']} of 64 bits differ",
            "same patient" if pair["same_patient"] else "different patients",
            splits[0] if splits[0] == splits[1] else f"in different splits: {splits[0]} and {splits[1]}",
        ]
        words = f"looks like the other of the pair, correlation {score(pair['correlation'])}"
        choices.append(Choice([_cell(image, content, words) for image in both], chosen, True, lines))
    return choices


def _pairs_note(content: Mapping[str, Any]) -> str:
    near = content["near_duplicates"]
    pairs, leaves, equal = len(near["pairs"]), len(near["left_out"]), near["equal_pixels"]
    note = f"{counted(pairs, 'pair')} of images that look alike, not of one series. "
    if pairs > MOST_PAIRS:
        note += f"The {MOST_PAIRS} most alike are shown. "
    if pairs:
        note += f"Without the {counted(leaves, 'image')} of near_duplicates.csv no pair is left. "
    if equal:
        note += (
            f"Beside them {counted(equal, 'image')} {'is a copy' if equal == 1 else 'are copies'} of others, pixel by "
            "pixel: a list by pixels cannot tell copies apart and would leave out all of them."
        )
    return note
