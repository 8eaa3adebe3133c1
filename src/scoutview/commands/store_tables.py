"""A store as tables for SQL. Rows stay in their files: DuckDB reads them through Arrow, which checks every page.

DuckDB's own Parquet reader checks no page: of 400 files with one flipped bit it counted 8 wrong without an error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from scoutview.errors import RunError
from scoutview.store import Store
from scoutview.store.annotations import SCHEMA as ANNOTATIONS
from scoutview.store.catalog import SCHEMA, read_parquet
from scoutview.store.reading import QUARANTINE

_REPEATING = [
    "modality", "split", "units", "flags", "body_part", "view", "manufacturer", "source_format", "patient", "series",
    "stack",
]  # fmt: skip
"""Columns with few different texts, which are read as numbers into a list of them: twice as fast."""
_STATED = ["target", "kind", "name", "value", "reader", "x"]

# A later file replaces what earlier ones say for the same target, kind, name and reader.
_STATEMENTS = """
CREATE TEMP VIEW statements AS
SELECT * FROM stated QUALIFY file = max(file) OVER (PARTITION BY target, kind, name, reader)
"""
_SPLITS = """
CREATE TEMP TABLE said AS
SELECT target, NULLIF(max_by(value, {'name': name, 'reader': reader, 'place': place}), '') AS split
FROM statements WHERE kind = 'split' GROUP BY target
"""
_AS_SAID = """
CREATE TEMP VIEW images AS
SELECT catalog.* REPLACE (coalesce(image_said.split, series_said.split, study_said.split, catalog.split) AS split)
FROM catalog
LEFT JOIN said AS image_said ON image_said.target = catalog.image
LEFT JOIN said AS series_said ON series_said.target = catalog.series
LEFT JOIN said AS study_said ON study_said.target = catalog.study
"""


@contextmanager
def tables_of(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with what a store holds.

    catalog: a row per image, the fields of `ImageRow`; images: the same with the splits that annotations give.
    statements: the annotations that hold now. refused: path, reason and detail of every file that was not taken.

    Raises:
        RunError: if one of these files is damaged, or memory and disk do not suffice.
    """
    merged = store.merged_catalog()
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute(f"SET temp_directory = '{folder}'")  # else it is one in the user's own folder
        connection.register("catalog", SCHEMA.empty_table() if merged is None else _dataset(merged))
        connection.register("stated", _statements_of(store))
        connection.register("refused", _refused_in(store))
        try:
            connection.execute(_STATEMENTS)
            connection.execute(_SPLITS)
            said = bool(rows_of_query(connection, "SELECT 1 FROM said LIMIT 1"))
            connection.execute(_AS_SAID if said else "CREATE TEMP VIEW images AS SELECT * FROM catalog")
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise RunError(
                f"counting {store.path} needs more memory, and more of the disk of {folder}, than is free: free some"
            ) from error
        except duckdb.Error as error:
            raise _damaged(merged, error) from error


def rows_of_query(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[dict[str, Any]]:
    """The rows of a query, by the names of its columns."""
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _dataset(merged: Path) -> Any:
    checked = pads.ParquetFragmentScanOptions(page_checksum_verification=True)
    options = pads.ParquetReadOptions(dictionary_columns=_REPEATING)
    try:
        return pads.dataset(merged, format=pads.ParquetFileFormat(options, default_fragment_scan_options=checked))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(merged, error) from error


def _damaged(merged: Path | None, error: Exception) -> RunError:
    cause = " ".join(str(error).split())
    return RunError(f"{merged} is damaged ({cause}): remove it, and it is made again from the catalog")


def _statements_of(store: Store) -> pa.Table:
    """Every statement, also one that was replaced, with the number of its file and its place there."""
    parts = []
    for number, file in enumerate(sorted((store.path / "annotations").glob("*.parquet"))):
        part = _read(file, ANNOTATIONS, _STATED, "remove it and add its labels again")
        part = part.append_column("file", pa.repeat(pa.scalar(number), len(part)))
        parts.append(part.append_column("place", pa.array(range(len(part)), pa.int64())))
    empty = pa.schema([*(ANNOTATIONS.field(name) for name in _STATED), ("file", pa.int64()), ("place", pa.int64())])
    return pa.concat_tables([empty.empty_table(), *parts])


def _refused_in(store: Store) -> pa.Table:
    file, columns = store.path / "quarantine.parquet", ["path", "reason", "detail"]
    if not file.exists():
        return QUARANTINE.empty_table().select(columns)
    return _read(
        file, QUARANTINE, columns, f"restore it from a copy, or remove it; scoutview fsck {store.path} checks the rest"
    )


def _read(file: Path, schema: pa.Schema, columns: list[str], fix: str) -> pa.Table:
    try:
        return read_parquet(file, columns).cast(pa.schema([schema.field(name) for name in columns]))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(f"{file} is damaged ({error}): {fix}") from error
