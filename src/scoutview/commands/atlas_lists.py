"""Images worth a look: outliers of the features, and copies that look alike; as lists that ingest --exclude takes."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.files import inert, write_text
from scoutview.store import ImageRow, Store
from scoutview.store.duplicates import Lookalikes

SHARE = 0.01
"""Of the images of a modality, those that each measure calls outliers; at least one, at most MOST."""
MOST = 50


def outliers_of(
    modalities: Sequence[str], density: npt.NDArray[np.float64], closeness: npt.NDArray[np.float64]
) -> list[dict[str, Any]]:
    """The images [image] of each modality with the least kNN density, and with the least cosine to any prototype.

    Those of both measures stand first, then the rest by how far down they are in either; each is listed once.
    """
    found: dict[int, dict[str, float]] = {}
    for modality in dict.fromkeys(modalities):
        mine = np.array([number for number, name in enumerate(modalities) if name == modality])
        most = min(MOST, max(1, math.ceil(SHARE * len(mine))))
        for measure, values in (("density", density), ("prototype", closeness)):
            for place, number in enumerate(mine[np.argsort(values[mine], kind="stable")][:most].tolist()):
                found.setdefault(number, {})[measure] = place
    order = sorted(found, key=lambda number: (-len(found[number]), min(found[number].values()), number))
    return [
        {
            "image": number,
            "measures": sorted(found[number]),
            "density": round(float(density[number]), 4),
            "closeness": round(float(closeness[number]), 4),
        }
        for number in order
    ]


def near_duplicates_of(store: Store, rows: Sequence[ImageRow]) -> dict[str, Any]:
    """Pairs that look alike, the most alike first, and which images to leave out so that no pair is left.

    Of a pair the image with more pixels stays, then the one that is listed first.
    """
    number_of = {row.image: number for number, row in enumerate(rows)}
    pairs: list[dict[str, Any]] = [
        {
            "first": number_of[pair.first.image],
            "second": number_of[pair.second.image],
            "bits": pair.bits,
            "correlation": round(pair.correlation, 4),
            "same_patient": pair.first.patient == pair.second.patient,
        }
        for pair in Lookalikes.of(store, rows).pairs()
    ]
    pairs.sort(key=lambda pair: (-pair["correlation"], pair["first"], pair["second"]))
    copies = sum(number - 1 for number in Counter((row.modality, row.pixel_sha256) for row in rows).values())
    leaves = [{"image": number, "like": stays} for number, stays in left_out(pairs, rows).items()]
    return {"pairs": pairs, "left_out": leaves, "equal_pixels": copies}


def left_out(pairs: Sequence[Mapping[str, Any]], rows: Sequence[ImageRow]) -> dict[int, int]:
    """Image -> the image that stays in its place; every image that is left out looks like one that stays."""
    alike: dict[int, list[int]] = {}
    for pair in pairs:
        alike.setdefault(pair["first"], []).append(pair["second"])
        alike.setdefault(pair["second"], []).append(pair["first"])
    leaves: dict[int, int] = {}
    for number in sorted(alike, key=lambda number: (-rows[number].rows * rows[number].columns, number)):
        if number not in leaves:
            leaves.update({other: number for other in alike[number] if other not in leaves})
    return dict(sorted(leaves.items()))


def write_list(path: Path, rows: Sequence[ImageRow], columns: Mapping[int, Mapping[str, Any]]) -> None:
    """A CSV file that `scoutview ingest --exclude` takes: image number -> further columns; keys and figures only."""
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["pixel_sha256", "image", "modality", "patient", *names])
    for number, values in columns.items():
        row = rows[number]
        cells = [row.pixel_sha256, row.image, row.modality, row.patient, *(values[name] for name in names)]
        writer.writerow(inert(cell) for cell in cells)
    write_text(path, stream.getvalue())
