"""What `scoutview inspect` counts: images, volumes, flags, splits, labels, copies, leaks, refused files; all in SQL."""

from __future__ import annotations

from collections import Counter
from typing import Any

import duckdb

from scoutview.commands.store_tables import rows_of_query
from scoutview.images import FLAGS
from scoutview.ingest import fix_of

SHOWN = 20

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
       sum(nbytes + spectrum_nbytes)::BIGINT AS bytes_on_disk,
       sum(2 * rows * columns)::BIGINT AS bytes_decoded
FROM catalog GROUP BY modality ORDER BY modality
"""
_INTENSITIES = """
SELECT modality, units, count(*) AS images,
       min(low * slope + "offset") AS low, max(high * slope + "offset") AS high, avg(mean * slope + "offset") AS mean
FROM catalog GROUP BY modality, units ORDER BY modality, units DESC
"""
# Images whose pixels are not the only ones. Hashes of 64 bits find them, which takes a quarter of the memory of the
# digests; these then decide.
_COPIES = """
CREATE OR REPLACE TEMP TABLE copies AS
SELECT image, modality, patient, split, pixel_sha256 FROM images
WHERE hash(pixel_sha256) IN (SELECT hash(pixel_sha256) FROM catalog GROUP BY ALL HAVING count(*) > 1)
"""
_DUPLICATES = """
SELECT pixel_sha256, modality, count(*) AS images, count(DISTINCT patient) AS patients, min(image) AS example
FROM copies GROUP BY pixel_sha256, modality HAVING count(*) > 1 ORDER BY images DESC, pixel_sha256 LIMIT ?
"""
_VOLUMES = """
CREATE OR REPLACE TEMP TABLE volumes AS
SELECT stack, count(*) AS slices,
       min_by(modality, coalesce(slice_index, 0)) AS modality,
       arg_min_null(slice_spacing, coalesce(slice_index, 0)) AS slice_spacing,
       bool_or(' ' || flags || ' ' LIKE '% gap %') AS uneven
FROM catalog WHERE stack <> '' GROUP BY stack
"""
# Of one reader, what is said of an image counts before what is said of its series, and that before its study; of
# several readers, what most of them said, the alphabetically first of equals. See `scoutview.store.image_labels`.
_LABELS = """
WITH labels AS (
    SELECT target, name, reader, max_by(value, place) AS value FROM statements WHERE kind = 'label' GROUP BY ALL
), about AS (
    SELECT image, modality, name, reader, value, 3 AS rank FROM catalog JOIN labels ON target = image
    UNION ALL
    SELECT image, modality, name, reader, value, 2 FROM catalog JOIN labels ON target = series WHERE series <> ''
    UNION ALL
    SELECT image, modality, name, reader, value, 1 FROM catalog JOIN labels ON target = study WHERE study <> ''
), votes AS (
    SELECT image, modality, name, reader, max_by(value, rank) AS value FROM about GROUP BY ALL
), counted AS (
    SELECT image, modality, name, value, count(*) AS readers FROM votes WHERE value <> '?' GROUP BY ALL
), decided AS (
    SELECT image, modality, name, min_by(value, {'readers': -readers, 'value': value}) AS value
    FROM counted GROUP BY ALL
)
SELECT name, modality, value, count(*) AS images FROM decided GROUP BY ALL ORDER BY ALL
"""
_BOXES = """
SELECT name, modality, count(*) AS boxes FROM statements JOIN catalog ON target = image
WHERE kind = 'box' AND x IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
_REFUSED = """
SELECT reason, count(*) AS files, min(path) AS example, min_by(detail, path) AS detail
FROM refused GROUP BY reason ORDER BY reason
"""


def counts_of(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Every count of a store, from the tables of `tables_of`; adds the tables `copies` and `volumes` to them."""
    connection.execute(_COPIES)
    connection.execute(_VOLUMES)
    modalities = _modalities(connection)
    patients, divided = _patients(connection)
    return {
        "totals": {
            "images": sum(row["images"] for row in modalities.values()),
            "patients": patients,
            "bytes_on_disk": sum(row["bytes_on_disk"] for row in modalities.values()),
        },
        "modalities": modalities,
        "volumes": _volumes(connection),
        "flags": _flags(connection),
        "splits": _splits(connection),
        "labels": _labels(connection),
        "duplicates": rows_of_query(connection, _DUPLICATES, SHOWN),
        "leaks": {"patients": divided, "same_pixels": _divided_copies(connection)},
        "quarantine": _quarantine(connection),
    }


def _modalities(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """modality -> counts; intensities of different units stay apart."""
    copies = "SELECT modality, count(*) - count(DISTINCT pixel_sha256) AS more FROM copies GROUP BY modality"
    duplicates = {row["modality"]: row["more"] for row in rows_of_query(connection, copies)}
    found: dict[str, dict[str, Any]] = {}
    for row in rows_of_query(connection, _IMAGES):
        name = row.pop("modality")
        found[name] = {**row, "exact_duplicates": duplicates.get(name, 0), "intensity": {}}
    for row in rows_of_query(connection, _INTENSITIES):
        found[row.pop("modality")]["intensity"][row.pop("units")] = row
    return found


def _volumes(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """modality -> volumes: their number, slices, spacing between slices in mm, and how many are uneven."""
    sql = """
    SELECT modality, count(*) AS volumes, min(slices) AS fewest_slices, median(slices) AS median_slices,
           max(slices) AS most_slices, min(slice_spacing) AS smallest_spacing, max(slice_spacing) AS largest_spacing,
           count(*) FILTER (uneven) AS uneven
    FROM volumes GROUP BY modality ORDER BY modality
    """
    return {row.pop("modality"): row for row in rows_of_query(connection, sql)}


def _flags(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """flag -> how many images have it, and what it means."""
    counts: Counter[str] = Counter()
    for row in rows_of_query(connection, "SELECT flags, count(*) AS images FROM catalog GROUP BY flags"):
        for flag in row["flags"].split():
            counts[flag] += row["images"]
    return {flag: {"images": counts[flag], "meaning": FLAGS[flag]} for flag in FLAGS if counts[flag]}


def _splits(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, dict[str, int]]]:
    """modality -> split -> images and patients, with the splits that annotations give."""
    sql = """
    SELECT modality, split, count(*) AS images, count(DISTINCT patient) AS patients
    FROM images GROUP BY ALL ORDER BY ALL
    """
    content: dict[str, dict[str, dict[str, int]]] = {}
    for row in rows_of_query(connection, sql):
        content.setdefault(row.pop("modality"), {})[row.pop("split")] = row
    return content


def _labels(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """label -> modality -> value -> images; boxes -> modality -> name -> boxes."""
    labels: dict[str, dict[str, dict[str, int]]] = {}
    boxes: dict[str, dict[str, int]] = {}
    if not rows_of_query(connection, "SELECT 1 FROM statements LIMIT 1"):
        return {"values": labels, "boxes": boxes}
    for row in rows_of_query(connection, _LABELS):
        labels.setdefault(row["name"], {}).setdefault(row["modality"], {})[row["value"]] = row["images"]
    for row in rows_of_query(connection, _BOXES):
        boxes.setdefault(row["name"], {})[row["modality"]] = row["boxes"]
    return {"values": labels, "boxes": boxes}


def _patients(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """(patients, those with images in more than one split)."""
    sql = """
    SELECT count(*) AS patients, count(*) FILTER (first <> last) AS divided
    FROM (SELECT min(split) AS first, max(split) AS last FROM images GROUP BY patient)
    """
    (row,) = rows_of_query(connection, sql)
    return row["patients"], row["divided"]


def _divided_copies(connection: duckdb.DuckDBPyConnection) -> int:
    """Groups of images with equal pixels in more than one split."""
    sql = """
    SELECT count(*) AS divided FROM (
        SELECT 1 FROM copies GROUP BY pixel_sha256 HAVING min(split) <> max(split)
    )
    """
    (row,) = rows_of_query(connection, sql)
    divided: int = row["divided"]
    return divided


def _quarantine(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """reason -> files that were not taken, one of them, and what would accept them."""
    content: dict[str, dict[str, Any]] = {}
    for row in rows_of_query(connection, _REFUSED):
        reason = row.pop("reason")
        content[reason] = {**row, "fix": fix_of(reason)}
    return content
