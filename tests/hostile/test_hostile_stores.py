"""Stores from strangers, whose checksums all fit: places outside, sizes that cannot be, tables of another form."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measuring import peak_of
from samples import make_store

from scoutview.commands.inspect import inspect
from scoutview.commands.merge import merge
from scoutview.errors import RunError, UsageError
from scoutview.images import MODALITIES
from scoutview.objects import ObjectEntry
from scoutview.store import Annotation, Store, mask_annotation, mirror, read_annotations
from scoutview.store.annotations import bitmap_of
from scoutview.store.catalog import ImageRow, read_parquet, rows_of, rows_to_table, write_parquet
from scoutview.store.fsck import check_store
from scoutview.store.indexing import open_index
from scoutview.store.seal import seal, with_checksum
from scoutview.store.volumes import volumes_of


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pattern") / "store"
    make_store(folder, images=2, size=32)
    return folder


@pytest.fixture
def store(pattern: Path, tmp_path: Path) -> Path:
    shutil.copytree(pattern, tmp_path / "store")
    return tmp_path / "store"


def catalog_of(store: Path, modality: str = "ct") -> Path:
    return next((store / "catalog" / modality).glob("*.parquet"))


def rewritten(store: Path, **values: Any) -> ImageRow:
    """The first CT image, whose row in the catalog says something else; the file and its seal are whole."""
    file = catalog_of(store)
    rows = rows_of(read_parquet(file))
    rows[0] = replace(rows[0], **values)
    write_parquet(rows_to_table(rows), file)
    return rows[0]


LIES: list[dict[str, Any]] = [
    {"shard": "../ct/x.tar"}, {"shard": "/etc/passwd"}, {"shard": "../../secret.tar"}, {"shard": "a" * 5000},
    {"shard": ""}, {"shard": "x\x00.tar"}, {"modality": "../.."}, {"modality": "xray"}, {"modality": "/etc"},
    {"rows": 2**31}, {"columns": 2**31}, {"rows": 2**62, "columns": 4}, {"rows": 0}, {"rows": -5},
    {"rows": 2**20, "columns": 2**20}, {"offset_in_shard": -1}, {"offset_in_shard": 2**63 - 1}, {"nbytes": 2**50},
    {"nbytes": -1}, {"spectrum_offset": -(2**40)}, {"prefix_nbytes_8": 2**40}, {"spectrum_nbytes": 2**33},
    {"crc32": -1},
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{next(iter(lie))}-{str(next(iter(lie.values())))[:20]!r}")
def test_a_catalog_that_lies_is_refused(lie: dict[str, Any], store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.tar").write_text("secret")
    row = rewritten(store, **lie)
    opened = Store.open(store)
    with pytest.raises(RunError, match="is damaged"):
        opened.catalog()
    with pytest.raises(RunError, match="is damaged"):
        open_index(opened)
    with pytest.raises(RunError, match="is damaged"):
        merge([store], out=tmp_path / "merged")
    assert not (tmp_path / "merged" / "shards" / "ct").exists()
    assert any("ct" in damage.file for damage in check_store(opened)[1])
    if "rows" not in lie and "columns" not in lie and "prefix_nbytes_8" not in lie:
        with pytest.raises(RunError):
            opened.read(row)


@pytest.mark.parametrize("lie", [{"offset_in_shard": 10**9}, {"nbytes": 2**32 - 1}, {"offset_in_shard": 0}])
def test_bytes_beyond_the_shard_are_not_made_room_for(lie: dict[str, Any], store: Path) -> None:
    row = rewritten(store, **lie)
    with pytest.raises(RunError, match="is damaged"):
        Store.open(store).read(row)
    assert check_store(Store.open(store))[1]


def hostile_codestream(store: Path, **sizes: int) -> ImageRow:
    """The first CT image with other numbers in its SIZ marker, and a checksum that fits."""
    file = catalog_of(store)
    row = rows_of(read_parquet(file))[0]
    shard = store / "shards" / "ct" / row.shard
    data = bytearray(shard.read_bytes())
    places = {"columns": 8, "rows": 12, "left": 16, "tile_columns": 24, "tile_rows": 28}
    for name, value in sizes.items():
        struct.pack_into(">I", data, row.offset_in_shard + places[name], value)
    shard.write_bytes(data)
    codestream = bytes(data[row.offset_in_shard :][: row.nbytes])
    prefix = zlib.crc32(codestream[: row.prefix_nbytes_8])
    return rewritten(store, crc32=zlib.crc32(codestream), prefix_crc32_8=prefix)


@pytest.mark.parametrize(
    "sizes", [{"rows": 2**31 - 1, "columns": 2**31 - 1}, {"left": 5}, {"tile_rows": 1}, {"tile_columns": 1}]
)
def test_a_codestream_of_another_size_is_not_decoded(sizes: dict[str, int], store: Path) -> None:
    row = hostile_codestream(store, **sizes)
    opened = Store.open(store)
    for read in (lambda: opened.read(row), lambda: opened.read(row, 3), lambda: list(opened.read_run([row]))):
        with pytest.raises(RunError, match="its codestream is not one of 32 x 40 px"):
            read()


def test_a_volume_of_impossible_slices_takes_no_memory(store: Path) -> None:
    rewritten(store, rows=2**16, columns=2**16, stack="v", slice_index=0)
    code = """
    for read in (lambda: Store.open(sys.argv[1]).rows(), lambda: open_index(Store.open(sys.argv[1])).row(0)):
        try:
            read()
        except RunError as error:
            assert "cannot be" in str(error), error
        else:
            raise AssertionError
    """
    setup = """
    from scoutview.errors import RunError
    from scoutview.store import Store
    from scoutview.store.indexing import open_index
    """
    assert peak_of(setup, code, store) < 200e6
    assert volumes_of(rows_of(read_parquet(catalog_of(store))))[0].shape[1:] == (2**16, 2**16)


def test_a_derived_index_that_lies_is_refused(store: Path) -> None:
    """The index lies in the store, and may have come with it."""
    opened = Store.open(store)
    index = open_index(opened)
    records = np.fromfile(index.folder / "records.bin", dtype=index.records.dtype)
    whole = records.copy()
    for name, value in (("rows", 2**31), ("columns", 0), ("units", 60_000), ("shard", 99)):
        records = whole.copy()
        records[name][0] = value
        raw = records.view(np.uint8).reshape(len(records), -1)
        records["checksum"] = [zlib.crc32(line[:-4].tobytes()) for line in raw]
        records.tofile(index.folder / "records.bin")
        with pytest.raises(RunError, match="is damaged"):
            open_index(opened).row(0)
    whole.tofile(index.folder / "records.bin")
    names = np.fromfile(index.folder / "shards.bin", dtype=np.uint8).view(f"S{index.shard_width}")
    names[:] = b"../../store.json"
    names.tofile(index.folder / "shards.bin")
    content = json.loads((index.folder / "index.json").read_text())
    content["checksums"]["shards"] = zlib.crc32(names.tobytes())
    content.pop("checksum")
    (index.folder / "index.json").write_text(json.dumps(with_checksum(content)))
    with pytest.raises(RunError, match="is no place in the store"):
        opened.read(open_index(opened).row(0))
    for text in ("5", "[]", "null", '{"version": 2, "ranges": 5}', "[" * 100_000):
        (index.folder / "index.json").write_text(text)
        assert len(open_index(opened)) == 2 * len(MODALITIES)


def parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)
    seal(path)


TABLES = [
    pa.table({"image": ["a"]}), pa.table({}), pa.table({"modality": [1.5], "shard": [None]}),
    pa.table({"a" * 10_000: [1]}), pa.table({name: pa.nulls(3, pa.string()) for name in ("image", "modality")}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TABLES)))
@pytest.mark.parametrize("place", ["catalog/ct", "annotations", "quarantine.parquet"])
def test_tables_of_another_form_are_an_error_of_one_line(place: str, number: int, store: Path) -> None:
    opened = Store.open(store)
    file = store / place if place.endswith("parquet") else next((store / place).glob("*.parquet"))
    parquet(file, TABLES[number])
    reads = {
        "catalog/ct": [opened.catalog, lambda: open_index(opened)],
        "annotations": [lambda: read_annotations(opened)],
        "quarantine.parquet": [opened.quarantined],
    }[place]
    for read in (*reads, lambda: inspect(store)):
        with pytest.raises((RunError, UsageError), match="is damaged"):
            read()


def test_a_null_where_a_value_must_be(store: Path) -> None:
    file = catalog_of(store)
    table = read_parquet(file)
    for name in ("image", "rows", "patient", "offset_in_shard"):
        place = table.column_names.index(name)
        nulls = pa.nulls(len(table), table.schema.field(name).type)
        schema = pa.schema([field.with_nullable(True) for field in table.schema])
        parquet(file, table.cast(schema).set_column(place, name, nulls))
        with pytest.raises(RunError, match="is damaged"):
            Store.open(store).rows()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1], lambda data: data[: len(data) // 2], lambda data: b"PAR1", lambda data: b"",
        lambda data: data[:-8] + struct.pack("<I", 2**31) + b"PAR1", lambda data: b"PAR1" + b"\xff" * 400 + data[-8:],
    ],
)  # fmt: skip
def test_torn_parquet(damage: Any, store: Path) -> None:
    file = catalog_of(store)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RunError, match="is damaged"):
        Store.open(store).catalog()


@pytest.mark.parametrize(
    "content",
    [
        "", "5", "[]", "null", '"text"', "{}", '{"version": "1"}', '{"version": 1}', "[" * 100_000, "\x00",
        '{"version": 1, "salt_id": 5, "reference_energies": {}}',
        '{"version": 1, "salt_id": "a", "reference_energies": []}',
        '{"version": 1e999, "salt_id": "a", "reference_energies": {}}', '{"version": 1, "checksum": "x"}',
    ],
)  # fmt: skip
def test_store_json_of_another_form(content: str, store: Path) -> None:
    (store / "store.json").write_text(content)
    with pytest.raises(UsageError, match=r"is damaged|of version"):
        Store.open(store)


def test_pipes_and_devices_in_place_of_a_shard(store: Path) -> None:
    opened = Store.open(store)
    row = next(row for row in opened.rows() if row.modality == "ct")
    shard = store / "shards" / "ct" / row.shard
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(RunError, match="no regular file"):
        Store.open(store).read(row)
    shard.unlink()
    shard.symlink_to("/dev/zero")
    with pytest.raises(RunError, match="no regular file"):
        Store.open(store).read(row)


def test_a_mask_that_inflates_is_refused() -> None:
    bitmap = np.zeros((8, 8), dtype=np.bool_)
    bitmap[2:5, 3:6] = True
    good = mask_annotation("a", "mass", bitmap)
    assert np.array_equal(bitmap_of(good, 8, 8), bitmap)
    bomb = zlib.compress(bytes(2**26), 9)
    for change in (
        {"mask": bomb}, {"x": float("nan")}, {"width": float("inf")}, {"x": -1.0}, {"height": 2.0**40},
        {"mask": good.mask[:-3] if good.mask else b""}, {"mask": b""},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="mask"):
            bitmap_of(replace(good, **change), 8, 8)
    code = """
    try:
        decode_mask(zlib.compress(bytes(2**29), 9), (0, 0, 8, 8), 8, 8)
    except ValueError:
        pass
    """
    # The bomb itself is made here, too: 512 MiB for its input, none for its output.
    assert peak_of("import zlib\nfrom scoutview.store.masks import decode_mask", code) < 600e6


def test_a_bucket_cannot_name_tables_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keys = ["store.json", "catalog/../../../../outside.parquet"]
    monkeypatch.setattr(mirror, "objects_in", lambda url: [ObjectEntry(f"{url}/{k}", "x", k, 1, "1") for k in keys])
    monkeypatch.setattr(mirror, "fetch", lambda url, stream: stream.write(b"x"))
    with pytest.raises(UsageError, match="outside"):
        mirror.mirror("s3://bucket/prefix")
    assert not list(tmp_path.rglob("outside*"))


def test_annotations_of_any_text_are_only_text(store: Path) -> None:
    opened = Store.open(store)
    table = read_parquet(next((store / "annotations").glob("*.parquet")))
    hostile = ["'; DROP TABLE images; --", "../../x", "\x1b[31m", "=cmd|' /C calc'!A0"] * 2
    table = table.slice(0, 8).set_column(2, "name", pa.array(hostile))
    parquet(next((store / "annotations").glob("*.parquet")), table)
    assert {entry.name for entry in read_annotations(opened)} == set(hostile)
    assert isinstance(read_annotations(opened)[0], Annotation)
    assert set(inspect(store, json=True)["labels"]["values"]) == set(hostile)
