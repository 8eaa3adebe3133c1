"""Choosing images by an SQL expression over the catalog, evaluated by DuckDB without access to anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from scoutview.errors import RunError, UsageError
from scoutview.store.annotations import SCHEMA as ANNOTATIONS
from scoutview.store.annotations import annotation_files
from scoutview.store.catalog import ImageRow
from scoutview.store.reading import Store

_BATCH = 2**16

# A later file of annotations replaces what earlier ones say for the same target, kind, name and reader.
_STATEMENTS = """
SELECT * EXCLUDE (filename) FROM read_parquet({files}, union_by_name = true, filename = true)
QUALIFY filename = max(filename) OVER (PARTITION BY target, kind, name, reader)
"""


def passing_rows(store: Store, expression: str) -> npt.NDArray[np.bool_]:
    """Whether each row of the merged catalog passes a filter, such as "modality = 'ct' and slice_spacing <= 2.5".

    The expression may use the columns of `catalog` (the fields of `ImageRow`), and subqueries over `catalog` and over
    `annotations` (the fields of `Annotation`; statements that were replaced are not in it).

    Raises:
        UsageError: if it is no expression, is wrong, gives no truth value, or gives another result each time.
        RunError: if a file of the catalog or of annotations is damaged.
    """
    merged = store.merged_catalog()
    if merged is None:
        return np.zeros(0, dtype=np.bool_)
    statements = [str(file) for file in annotation_files(store)]
    with duckdb.connect() as connection:
        connection.execute(f"SET allowed_paths = {_texts([str(merged), *statements])}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        _check_expression(connection, expression)
        source = f"read_parquet({_texts([str(merged)])}, file_row_number = true)"
        connection.execute(f"CREATE VIEW catalog AS SELECT * FROM {source}")
        _add_annotations(connection, store, statements)
        flags = np.zeros(connection.execute("SELECT count(*) FROM catalog").fetchall()[0][0], dtype=np.bool_)
        try:
            passing = connection.sql(f"SELECT file_row_number FROM catalog WHERE (\n{expression}\n)")
            for batch in passing.to_arrow_reader(_BATCH):
                flags[batch.column(0).to_numpy()] = True
        except duckdb.Error as error:
            columns = ", ".join(field.name for field in fields(ImageRow))
            raise UsageError(f"where {expression!r}: {_cause(error)}; the catalog has the columns {columns}") from error
    return flags


def _add_annotations(connection: duckdb.DuckDBPyConnection, store: Store, files: list[str]) -> None:
    if not files:
        connection.register("annotations", ANNOTATIONS.empty_table())
        return
    try:
        connection.execute(f"CREATE VIEW annotations AS {_STATEMENTS.format(files=_texts(files))}")
    except duckdb.Error as error:  # the length of a footer is not under the seal
        raise RunError(
            f"the annotations of {store.path} cannot be read ({_cause(error)}): scoutview fsck {store.path} names the "
            "damaged file; remove it and add its labels again"
        ) from error


def _check_expression(connection: duckdb.DuckDBPyConnection, expression: str) -> None:
    """One expression and nothing beside it, whose value depends on the catalog alone."""
    sql = f"SELECT (\n{expression}\n)"
    try:
        parsed = json.loads(connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])
    except duckdb.Error as error:
        raise UsageError(f"where {expression!r} cannot be read: {_cause(error)}") from error
    if parsed["error"]:
        raise UsageError(f"where {expression!r} is no SQL expression: {parsed['error_message']}")
    nodes = [statement["node"] for statement in parsed["statements"]]
    if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE" or nodes[0]["from_table"]["type"] != "EMPTY":
        raise UsageError(f"where {expression!r} is more than one expression: give what would follow WHERE")
    known = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    fickle = {name for (name,) in connection.execute(known).fetchall()}
    for name in _functions(nodes[0]):
        if name in fickle:
            raise UsageError(
                f"where {expression!r}: {name} gives another value each time, and a run has to find the "
                "same images: leave it out"
            )


def _functions(node: Any) -> Iterator[str]:
    """The names of all functions in a parsed statement."""
    if isinstance(node, dict):
        if isinstance(node.get("function_name"), str):
            yield node["function_name"].lower()
        for value in node.values():
            yield from _functions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _functions(value)


def _texts(values: list[str]) -> str:
    """A list of texts as SQL."""
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"


def _cause(error: duckdb.Error) -> str:
    return " ".join(str(error).split("LINE ")[0].split())
