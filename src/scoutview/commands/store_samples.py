"""Sample pictures of a store for the page of `scoutview inspect`, through the preprocessing of training."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from scoutview.errors import RunError
from scoutview.preprocessing import Preprocessing, preprocess
from scoutview.report import Sheet, Thumbnail, Tile
from scoutview.report.thumbnails import LONGEST, thumbnail
from scoutview.report.wording import counted
from scoutview.store import ImageRow, Store, read_catalog_file, rows_of
from scoutview.store.codec import LEVELS

PICTURES = 24
"""Pictures of a modality's sheet."""
PLACES = (0.25, 0.5, 0.75)
"""Where a volume is shown: the slices nearest to these parts of it."""

# Ids and keys are hashes, so the first in their order are a sample that does not change as long as they stay.
_UNITS = """
SELECT unit FROM (
    SELECT image AS unit FROM catalog WHERE modality = $modality AND stack = '' AND NOT {hidden}
    UNION ALL
    SELECT stack FROM volumes WHERE modality = $modality AND stack NOT IN (
        SELECT stack FROM catalog WHERE modality = $modality AND {hidden}
    )
) ORDER BY unit LIMIT {limit}
"""
_HIDDEN = "' ' || flags || ' ' LIKE '% text_unknown %'"


def sample_sheet(store: Store, connection: duckdb.DuckDBPyConnection, modality: str) -> Sheet:
    """Up to 24 pictures of a modality, the same for the same store; a damaged image has a problem in its place.

    Ultrasound without declared regions (the flag text_unknown) is never shown. Needs the tables of `counts_of`.
    """
    sql = _UNITS.format(hidden=_HIDDEN, limit=PICTURES)
    units = [unit for (unit,) in connection.execute(sql, {"modality": modality}).fetchall()]
    tiles: list[Tile] = []
    shown = 0
    for rows in _rows_of_units(store, connection, modality, units):
        chosen = [rows[int(place * len(rows))] for place in PLACES] if rows[0].stack else rows
        if shown + len(chosen) <= PICTURES:
            tiles.append(Tile(tuple(_thumbnail(store, row) for row in chosen), _lines(rows)))
            shown += len(chosen)
    return Sheet(tiles, _notes(connection, modality, tiles))


def _rows_of_units(
    store: Store, connection: duckdb.DuckDBPyConnection, modality: str, units: list[str]
) -> list[list[ImageRow]]:
    """The rows of each image or volume, in order; only the shards that hold them are read with all columns."""
    sql = "SELECT DISTINCT shard FROM catalog WHERE modality = $modality AND (image IN $units OR stack IN $units)"
    shards = [shard for (shard,) in connection.execute(sql, {"modality": modality, "units": units}).fetchall()]
    found: dict[str, list[ImageRow]] = {unit: [] for unit in units}
    for shard in shards:
        table = read_catalog_file(store.path / "catalog" / modality / f"{shard.removesuffix('.tar')}.parquet")
        wanted = [pc.is_in(table.column(name), pa.array(units, pa.string())) for name in ("image", "stack")]
        for row in rows_of(table.filter(pc.or_(*wanted))):
            found[row.stack or row.image].append(row)
    return [sorted(rows, key=lambda row: row.slice_index or 0) for rows in found.values()]


def _thumbnail(store: Store, row: ImageRow) -> Thumbnail:
    side = max(row.rows, row.columns)
    level = next((level for level in range(LEVELS, 0, -1) if side >> level >= LONGEST), 0)
    alternative = f"image {row.image[:8]}"
    try:
        pixels = store.read(row, level)
    except RunError:
        return Thumbnail("", alternative, f"image {row.image} is damaged")
    return Thumbnail(thumbnail(preprocess(pixels, row, Preprocessing())), alternative)


def _lines(rows: list[ImageRow]) -> tuple[str, ...]:
    """Caption of an image, or of a volume by its first slice."""
    row = rows[0]
    spacing = "spacing unknown"
    if row.row_spacing is not None and row.column_spacing is not None:
        spacing = " × ".join(f"{step:.3g}" for step in dict.fromkeys((row.row_spacing, row.column_spacing))) + " mm"
    size = f"{row.rows} × {row.columns} px"
    flags = sorted({flag for row in rows for flag in row.flags.split()})
    if not row.stack:
        return (row.image[:8], size, spacing, *flags)
    apart = f", {row.slice_spacing:.3g} mm apart" if row.slice_spacing is not None else ""
    return (f"volume {row.stack[:8]}, {len(rows)} slices{apart}", f"{size}, {spacing}", *flags)


def _notes(connection: duckdb.DuckDBPyConnection, modality: str, tiles: list[Tile]) -> tuple[str, ...]:
    said = []
    if any(len(tile.pictures) > 1 for tile in tiles):
        said.append("Of a volume three slices are shown, a quarter, half and three quarters of the way through it.")
    sql = f"SELECT count(*) FROM catalog WHERE modality = $modality AND {_HIDDEN}"
    (hidden,) = connection.execute(sql, {"modality": modality}).fetchall()[0]
    if hidden:
        said.append(f"Not shown: {counted(hidden, 'image')} flagged text_unknown, whose pixels may name a patient.")
    return tuple(said)
