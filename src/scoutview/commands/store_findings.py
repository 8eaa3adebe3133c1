"""What `scoutview inspect` looks for when asked: images that look alike, and header values in a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scoutview.ingest.privacy import search_store
from scoutview.store import Store, read_annotations, split_of
from scoutview.store.duplicates import Lookalikes

SHOWN = 20


def near_in(store: Store) -> dict[str, Any]:
    """Pairs of images that look alike, and how many of them stand in different splits; holds all rows in memory."""
    rows = store.rows()
    splits = split_of(rows, read_annotations(store))
    pairs = list(Lookalikes.of(store, rows).pairs())
    apart = [pair for pair in pairs if splits[pair.first.image] != splits[pair.second.image]]
    return {
        "near_pairs": len(pairs),
        "near_pairs_across_patients": sum(pair.first.patient != pair.second.patient for pair in pairs),
        "near_pairs_across_splits": len(apart),
        "near_examples": [
            {
                "first": pair.first.image,
                "second": pair.second.image,
                "same_patient": pair.first.patient == pair.second.patient,
                "splits": [splits[pair.first.image], splits[pair.second.image]],
                "bits": pair.bits,
                "correlation": pair.correlation,
            }
            for pair in sorted(pairs, key=lambda pair: (pair not in apart, -pair.correlation))[:SHOWN]
        ],
    }


def privacy_of(store: Path, sources: list[Path]) -> dict[str, Any]:
    """The result of the search for header values of the sources in every file of the store."""
    report = search_store(store, sources)
    return {
        "headers": report.headers,
        "values": report.values,
        "bytes": report.bytes,
        "findings": [{"element": item.element, "file": item.file} for item in report.findings],
    }
