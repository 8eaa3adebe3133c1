"""The catalog: one Parquet file per shard with one row per image; its presence commits the shard."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoutview.files import replacing
from scoutview.images.types import LARGEST_AREA
from scoutview.store.seal import seal, seal_stream, verify, verify_stream

INGEST_VERSION = 2


@dataclass(frozen=True)
class ImageRow:
    """A row of the catalog. Identifiers are keyed hashes (HMAC); nothing here names a person.

    Physical value = stored value * slope + offset, in `units`. Spacing and slice position in mm.
    `low` and `high` are the 0.5% and 99.5% percentiles of the stored values at full resolution.
    `prefix_nbytes_2` is the length of the prefix that decodes at 1/2 resolution, and so on.
    `stack` names the volume whose slices lie one after the other in one shard, in the order of `slice_index`; it is
    "" for an image by itself. `affine`, `window` and `flags` (separated by blanks): see `scoutview.images.Image`.
    """

    image: str
    modality: str
    shard: str
    offset_in_shard: int
    nbytes: int
    crc32: int
    codec: str
    prefix_nbytes_2: int
    prefix_nbytes_4: int
    prefix_nbytes_8: int
    prefix_crc32_2: int
    prefix_crc32_4: int
    prefix_crc32_8: int
    spectrum_offset: int
    spectrum_nbytes: int
    spectrum_crc32: int
    spectrum_preprocessing: str
    rows: int
    columns: int
    dtype: str
    shifted: bool
    slope: float
    offset: float
    units: str
    row_spacing: float | None
    column_spacing: float | None
    body_part: str
    view: str
    patient: str
    study: str
    series: str
    slice_index: int | None
    slice_position: float | None
    split: str
    minimum: float
    low: float
    high: float
    maximum: float
    mean: float
    deviation: float
    pixel_sha256: str
    difference_hash: str
    source_format: str
    manufacturer: str
    file_key: str
    path_key: str
    name_key: str
    instance_key: str
    file_stamp: str
    ingest_version: int
    stack: str = ""
    slice_spacing: float | None = None
    affine: tuple[float, ...] | None = None
    window: str = ""
    flags: str = ""


_ARROW = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    tuple[float, ...]: pa.list_(pa.float64()),
}


def _arrow_schema() -> Any:
    hints = get_type_hints(ImageRow)
    columns = []
    for field in fields(ImageRow):
        hint = hints[field.name]
        optional = isinstance(hint, UnionType)
        kind = next(part for part in get_args(hint) if part is not NoneType) if optional else hint
        columns.append(pa.field(field.name, _ARROW[kind], nullable=optional))
    return pa.schema(columns)


SCHEMA = _arrow_schema()
_BOUNDS = (
    ("rows", 1, LARGEST_AREA),
    ("columns", 1, LARGEST_AREA),
    *((name, 0, 2**32 - 1) for name in SCHEMA.names if "nbytes" in name or "crc32" in name),
    *((name, 0, 2**62) for name in ("offset_in_shard", "spectrum_offset")),
)


def rows_of(table: Any) -> list[ImageRow]:
    """The inverse of `rows_to_table`; columns that an older version did not write have their defaults.

    Raises:
        TypeError: if a column is missing or unknown.
    """
    rows = []
    for values in table.to_pylist():
        if values.get("affine") is not None:
            values["affine"] = tuple(values["affine"])
        rows.append(ImageRow(**values))
    return rows


def with_all_columns(table: Any) -> Any:
    """A catalog table, also of an older version, as one of SCHEMA.

    Raises:
        pyarrow.ArrowException, ValueError: if its columns are others, or a size or place in a shard cannot be.
    """
    for field in fields(ImageRow):
        if field.name not in table.column_names and field.default is not MISSING:
            column = pa.array([field.default] * table.num_rows, SCHEMA.field(field.name).type)
            table = table.append_column(SCHEMA.field(field.name), column)
    table = table.cast(SCHEMA)
    _check_numbers(table)
    return table


def _check_numbers(table: Any) -> None:
    """What a reader makes room for, or looks for in a shard, before it has seen a checksum."""
    for name, least, most in _BOUNDS:
        extremes = pc.min_max(table.column(name))
        low, high = extremes["min"].as_py(), extremes["max"].as_py()
        if low is not None and not least <= low <= high <= most:
            raise ValueError(f"{name} is {low} to {high}, which cannot be")
    areas = pc.max(pc.multiply(table.column("rows"), table.column("columns"))).as_py()
    if areas is not None and areas > LARGEST_AREA:
        raise ValueError(f"an image of {areas} px, which cannot be")


def rows_to_table(rows: Iterable[ImageRow]) -> Any:
    """An Arrow table of SCHEMA."""
    return pa.Table.from_pylist([vars(row) for row in rows], schema=SCHEMA)


def write_parquet(table: Any, path: Path) -> None:
    """Write a Parquet file atomically, with page checksums, a seal and zstd."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        seal(temporary)


def read_parquet(path: Path, columns: list[str] | None = None) -> Any:
    """Read one Parquet file after its seal was verified, with its page checksums.

    Raises:
        OSError, pyarrow.ArrowException: if the file is missing or damaged.
    """
    verify(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns)


def parquet_bytes(table: Any) -> bytes:
    """A table as an uncompressed Parquet file with page checksums and a seal."""
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="none", write_page_checksum=True)
    seal_stream(stream)
    return stream.getvalue()


def parquet_from_bytes(data: bytes) -> Any:
    """The inverse of `parquet_bytes`.

    Raises:
        OSError, pyarrow.ArrowException: if they are not as they were written.
    """
    verify_stream(io.BytesIO(data), len(data), sealed=True)
    with pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True) as file:
        return file.read()
