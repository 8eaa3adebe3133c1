"""The seal of tables and JSON: other readers see the same file, and no changed byte passes."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoutview.store.catalog import parquet_bytes, parquet_from_bytes, read_parquet, write_parquet
from scoutview.store.seal import checksum_fits, verify, with_checksum

TABLE = pa.table({"number": list(range(300)), "text": [f"row {number % 7}" for number in range(300)]})


def test_other_readers_see_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_parquet(TABLE, path)
    assert pq.read_table(path).equals(TABLE)
    assert read_parquet(path).equals(TABLE)
    assert duckdb.sql(f"SELECT sum(number), count(DISTINCT text) FROM '{path}'").fetchall() == [(44850, 7)]


def test_a_file_without_a_seal_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(TABLE, path)
    assert read_parquet(path).equals(TABLE)


def test_no_changed_byte_passes_but_those_of_the_magic(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_parquet(TABLE, path)
    data = path.read_bytes()
    passing = []
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        try:
            verify(path)
        except OSError:
            continue
        passing.append(place)
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little") - 12
    footer_length = range(len(data) - 8, len(data) - 4)
    assert set(range(begin, begin + 4)) <= set(passing) <= {*range(begin, begin + 4), *footer_length}
    for place in set(passing) & set(footer_length):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        with pytest.raises((OSError, pa.ArrowException)):
            read_parquet(path)
    for cut in (0, 3, 8, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(OSError, match="Parquet"):
            verify(path)


def test_bytes_must_have_a_seal() -> None:
    data = parquet_bytes(TABLE)
    assert parquet_from_bytes(data).equals(TABLE)
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink)
    with pytest.raises(OSError, match="no seal"):
        parquet_from_bytes(sink.getvalue().to_pybytes())


def test_json_content_and_its_checksum() -> None:
    content = with_checksum({"b": [0.1, float("nan")], "a": {"x": 1}})
    assert checksum_fits(content)
    assert checksum_fits({"a": 1})
    assert not checksum_fits({**content, "a": {"x": 2}})
    assert with_checksum(content)["checksum"] == content["checksum"]
