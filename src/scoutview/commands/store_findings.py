"""What `scoutview inspect` says of volumes, flags, leaks between splits, and privacy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from scoutview.images import FLAGS
from scoutview.ingest.privacy import search_store
from scoutview.store import ImageRow, Store, read_annotations, split_of, volumes_of
from scoutview.store.duplicates import Lookalikes

SHOWN = 20


def volumes_in(rows: Iterable[ImageRow]) -> dict[str, dict[str, Any]]:
    """Modality -> volumes: their number, slices, spacing between slices in mm, and how many are uneven."""
    found: dict[str, list[Any]] = {}
    for volume in volumes_of(rows):
        found.setdefault(volume.rows[0].modality, []).append(volume)
    content = {}
    for modality, volumes in sorted(found.items()):
        slices = [len(volume.rows) for volume in volumes]
        spacings = [volume.rows[0].slice_spacing for volume in volumes if volume.rows[0].slice_spacing is not None]
        content[modality] = {
            "volumes": len(volumes),
            "fewest_slices": min(slices),
            "median_slices": median(slices),
            "most_slices": max(slices),
            "smallest_spacing": min(spacings, default=None),
            "largest_spacing": max(spacings, default=None),
            "uneven": sum(not volume.even for volume in volumes),
        }
    return content


def flags_in(rows: Iterable[ImageRow]) -> dict[str, dict[str, Any]]:
    """Flag -> how many images have it, and what it means."""
    counts = Counter(flag for row in rows for flag in row.flags.split())
    return {flag: {"images": counts[flag], "meaning": FLAGS[flag]} for flag in FLAGS if counts[flag]}


def leaks_in(store: Store, rows: list[ImageRow], near: bool) -> dict[str, Any]:
    """What stands in more than one split: patients, exact copies, and with `near` images that look alike."""
    splits = split_of(rows, read_annotations(store))
    content: dict[str, Any] = {
        "patients": _divided(rows, splits, lambda row: row.patient),
        "same_pixels": _divided(rows, splits, lambda row: row.pixel_sha256),
    }
    if near:
        pairs = list(Lookalikes.of(store, rows).pairs())
        content["near_pairs"] = len(pairs)
        content["near_pairs_across_patients"] = sum(pair.first.patient != pair.second.patient for pair in pairs)
        apart = [pair for pair in pairs if splits[pair.first.image] != splits[pair.second.image]]
        content["near_pairs_across_splits"] = len(apart)
        content["near_examples"] = [
            {
                "first": pair.first.image,
                "second": pair.second.image,
                "same_patient": pair.first.patient == pair.second.patient,
                "splits": [splits[pair.first.image], splits[pair.second.image]],
                "bits": pair.bits,
                "correlation": pair.correlation,
            }
            for pair in sorted(pairs, key=lambda pair: (pair not in apart, -pair.correlation))[:SHOWN]
        ]
    return content


def _divided(rows: list[ImageRow], splits: dict[str, str], key: Any) -> int:
    """How many groups of images with one key lie in several splits."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(key(row), set()).add(splits[row.image])
    return sum(len(names) > 1 for names in found.values())


def privacy_of(store: Path, sources: list[Path]) -> dict[str, Any]:
    """The result of the search for header values of the sources in every file of the store."""
    report = search_store(store, sources)
    return {
        "headers": report.headers,
        "values": report.values,
        "bytes": report.bytes,
        "findings": [{"element": item.element, "file": item.file} for item in report.findings],
    }
