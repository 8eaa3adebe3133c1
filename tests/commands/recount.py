"""What a store holds, counted row by row in Python: the oracle of `scoutview inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import Any

from scoutview.images import FLAGS
from scoutview.store import ImageRow, Store, image_labels, read_annotations, split_of, volumes_of


def recount(store: Store) -> dict[str, Any]:
    """The counts of `scoutview inspect`, from lists of rows."""
    rows = store.rows()
    splits = split_of(rows, read_annotations(store))
    return {
        "totals": {
            "images": len(rows),
            "patients": len({row.patient for row in rows}),
            "bytes_on_disk": sum(row.nbytes + row.spectrum_nbytes for row in rows),
        },
        "modalities": {name: of_modality(mine) for name, mine in grouped(rows).items()},
        "volumes": volumes(rows),
        "flags": flags(rows),
        "splits": {name: of_splits(mine, splits) for name, mine in grouped(rows).items()},
        "labels": labels(store, rows),
        "leaks": {
            "patients": divided(rows, splits, "patient"),
            "same_pixels": divided(rows, splits, "pixel_sha256"),
        },
    }


def grouped(rows: Iterable[ImageRow]) -> dict[str, list[ImageRow]]:
    found: dict[str, list[ImageRow]] = {}
    for row in rows:
        found.setdefault(row.modality, []).append(row)
    return dict(sorted(found.items()))


def of_modality(rows: list[ImageRow]) -> dict[str, Any]:
    spacings = [row.row_spacing for row in rows if row.row_spacing is not None]
    intensity = {}
    for units in sorted({row.units for row in rows}, reverse=True):
        mine = [row for row in rows if row.units == units]
        intensity[units] = {
            "images": len(mine),
            "low": min(row.low * row.slope + row.offset for row in mine),
            "high": max(row.high * row.slope + row.offset for row in mine),
            "mean": sum(row.mean * row.slope + row.offset for row in mine) / len(mine),
        }
    return {
        "images": len(rows),
        "patients": len({row.patient for row in rows}),
        "series": len({row.series for row in rows if row.series}),
        "shortest_side": min(min(row.rows, row.columns) for row in rows),
        "longest_side": max(max(row.rows, row.columns) for row in rows),
        "smallest_spacing": min(spacings, default=None),
        "largest_spacing": max(spacings, default=None),
        "without_spacing": len(rows) - len(spacings),
        "bytes_on_disk": sum(row.nbytes + row.spectrum_nbytes for row in rows),
        "bytes_decoded": sum(2 * row.rows * row.columns for row in rows),
        "exact_duplicates": len(rows) - len({row.pixel_sha256 for row in rows}),
        "intensity": intensity,
    }


def volumes(rows: list[ImageRow]) -> dict[str, dict[str, Any]]:
    found: dict[str, list[Any]] = {}
    for volume in volumes_of(rows):
        found.setdefault(volume.rows[0].modality, []).append(volume)
    content = {}
    for modality, mine in sorted(found.items()):
        slices = [len(volume.rows) for volume in mine]
        spacings = [volume.rows[0].slice_spacing for volume in mine if volume.rows[0].slice_spacing is not None]
        content[modality] = {
            "volumes": len(mine),
            "fewest_slices": min(slices),
            "median_slices": median(slices),
            "most_slices": max(slices),
            "smallest_spacing": min(spacings, default=None),
            "largest_spacing": max(spacings, default=None),
            "uneven": sum(not volume.even for volume in mine),
        }
    return content


def flags(rows: list[ImageRow]) -> dict[str, dict[str, Any]]:
    counts = Counter(flag for row in rows for flag in row.flags.split())
    return {flag: {"images": counts[flag], "meaning": FLAGS[flag]} for flag in FLAGS if counts[flag]}


def of_splits(rows: list[ImageRow], splits: dict[str, str]) -> dict[str, dict[str, int]]:
    return {
        name: {
            "images": sum(splits[row.image] == name for row in rows),
            "patients": len({row.patient for row in rows if splits[row.image] == name}),
        }
        for name in sorted({splits[row.image] for row in rows})
    }


def labels(store: Store, rows: list[ImageRow]) -> dict[str, Any]:
    annotations = read_annotations(store)
    modality = {row.image: row.modality for row in rows}
    values: dict[str, dict[str, dict[str, int]]] = {}
    for name, said in image_labels(annotations, rows).items():
        for (kind, value), number in sorted(Counter((modality[image], value) for image, value in said.items()).items()):
            values.setdefault(name, {}).setdefault(kind, {})[value] = number
    boxes: dict[str, Counter[str]] = {}
    for item in annotations:
        if item.kind == "box" and item.x is not None and item.target in modality:
            boxes.setdefault(item.name, Counter())[modality[item.target]] += 1
    return {"values": values, "boxes": {name: dict(counts) for name, counts in boxes.items()}}


def divided(rows: list[ImageRow], splits: dict[str, str], key: str) -> int:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(getattr(row, key), set()).add(splits[row.image])
    return sum(len(names) > 1 for names in found.values())
