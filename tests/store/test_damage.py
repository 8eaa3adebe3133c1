"""A store keeps what it was given, in the open, and never returns damaged pixels."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest

from scoutview.commands.fsck import fsck
from scoutview.errors import RunError, UsageError
from scoutview.images import Image, difference_hash, encode_spectrum, pixel_sha256, radial_spectrum
from scoutview.store import DamagedRecordError, Record, Store, StoreWriter, check_store, make_record
from scoutview.store.catalog import read_parquet, write_parquet
from scoutview.store.shards import Keys, shard_members


def image_of(seed: int, rows: int = 40, columns: int = 56) -> Image:
    y, x = np.mgrid[0:rows, 0:columns]
    noise = np.random.default_rng(seed).normal(0, 40, (rows, columns))
    return Image((900 * np.sin(x / 7 + seed) + 700 * np.cos(y / 5) + noise).astype(np.int16), "xray")


def write_store(path: Path, images: list[Image], **options: int) -> Path:
    with StoreWriter(path, "salt", **options) as writer:
        for number, image in enumerate(images):
            name = f"{number:032x}"
            keys = Keys(name, name, "", "", name, name, name, "", "stamp", "train")
            spectrum = encode_spectrum(radial_spectrum(image.pixels / np.float32(4000)))
            writer.add(make_record(image, keys, spectrum, "00000000"))
    return path


def test_pixels_come_back_and_other_tools_read_the_shard(tmp_path: Path) -> None:
    images = [image_of(seed) for seed in range(4)]
    store = Store.open(write_store(tmp_path / "store", images))
    rows = store.rows()
    for image, row in zip(images, rows, strict=True):
        np.testing.assert_array_equal(store.read(row), image.pixels)
        assert row.pixel_sha256 == pixel_sha256(image.pixels)
    (shard,) = (tmp_path / "store" / "shards" / "xray").glob("*.tar")
    with tarfile.open(shard) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    for image, row in zip(images, rows, strict=True):
        np.testing.assert_array_equal(imagecodecs.htj2k_decode(members[f"{row.image}.j2c"]), image.pixels)
        assert len(members[f"{row.image}.spectrum"]) == row.spectrum_nbytes
    listed = {name: (offset, size) for name, offset, size in shard_members(shard)}
    assert pq.read_table(io.BytesIO(members["rows.parquet"])).column("image").to_pylist() == [row.image for row in rows]
    del listed["rows.parquet"]
    assert listed == {
        **{f"{row.image}.j2c": (row.offset_in_shard, row.nbytes) for row in rows},
        **{f"{row.image}.spectrum": (row.spectrum_offset, row.spectrum_nbytes) for row in rows},
    }


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("shape", [(40, 56), (16, 16), (17, 233)])
def test_a_prefix_decodes_as_the_whole_at_reduced_resolution(
    tmp_path: Path, level: int, shape: tuple[int, int]
) -> None:
    store = Store.open(write_store(tmp_path / "store", [image_of(1, *shape)]))
    (row,) = store.rows()
    data = (store.path / "shards" / "xray" / row.shard).read_bytes()
    codestream = data[row.offset_in_shard : row.offset_in_shard + row.nbytes]
    expected = imagecodecs.htj2k_decode(codestream, skipres=level)
    np.testing.assert_array_equal(store.read(row, level), expected)
    assert expected.shape == tuple(-(-side // 2**level) for side in shape)


def test_every_flipped_byte_of_an_image_is_found_before_it_is_decoded(tmp_path: Path) -> None:
    store = Store.open(write_store(tmp_path / "store", [image_of(1, 16, 20)]))
    (row,) = store.rows()
    shard = store.path / "shards" / "xray" / row.shard
    original = shard.read_bytes()
    places = [*range(row.offset_in_shard, row.offset_in_shard + row.nbytes)]
    places += [*range(row.spectrum_offset, row.spectrum_offset + row.spectrum_nbytes)]
    for place in places:
        data = bytearray(original)
        data[place] ^= 1 << (place % 8)
        shard.write_bytes(bytes(data))
        with pytest.raises(DamagedRecordError, match="scoutview fsck"):
            store.read(row)
        if place % 25 == 0:
            assert len(check_store(store)[1]) == 1


def test_fsck_names_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_store(tmp_path / "store", [image_of(seed) for seed in range(3)])
    assert fsck(path, json=True) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"images": 3, "damaged": []}
    row = Store.open(path).rows()[1]
    shard = path / "shards" / "xray" / row.shard
    data = bytearray(shard.read_bytes())
    data[row.offset_in_shard + row.nbytes // 2] ^= 4
    shard.write_bytes(bytes(data))
    assert fsck(path, json=True) == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [entry["image"] for entry in report["damaged"]] == [row.image]
    shard.unlink()
    assert fsck(path, json=True) == 1
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["damaged"]) == 3


def test_a_damaged_catalog_is_found_or_says_the_same(tmp_path: Path) -> None:
    path = write_store(tmp_path / "store", [image_of(seed) for seed in range(3)])
    expected = Store.open(path).rows()
    shutil.rmtree(path / "catalog" / "merged")
    (catalog,) = (path / "catalog" / "xray").glob("*.parquet")
    original = catalog.read_bytes()
    found = 0
    for place in range(0, len(original), 211):
        data = bytearray(original)
        data[place] ^= 1
        catalog.write_bytes(bytes(data))
        if check_store(Store.open(path))[1]:
            found += 1
            with pytest.raises(RunError, match="is damaged"):
                Store.open(path).rows()
        else:  # statistics and page headers that nothing reads
            assert Store.open(path).rows() == expected
            shutil.rmtree(path / "catalog" / "merged")
    assert found > len(original) // 211 / 2
    assert fsck(path) == bool(check_store(Store.open(path))[1])


def test_a_shard_without_catalog_is_not_part_of_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_store(tmp_path / "store", [image_of(seed) for seed in range(4)], shard_bytes=2**12)
    catalogs = sorted((path / "catalog" / "xray").glob("*.parquet"))
    assert len(catalogs) > 1
    catalogs[0].unlink()
    assert fsck(path) == 0
    assert "belongs to no catalog" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"version": 2}', "version 2, this scoutview reads version 1"), ("{", "is damaged"), ("[]", "is damaged")],
)
def test_a_store_of_another_kind_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        Store.open(tmp_path)
    with pytest.raises(UsageError, match="not a store"):
        Store.open(tmp_path / "nothing")


def test_an_error_discards_what_was_not_committed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    name = "0" * 32
    keys = Keys(name, name, "", "", name, name, name, "", "stamp", "train")
    spectrum = encode_spectrum(radial_spectrum(image_of(1).pixels / np.float32(4000)))
    record = make_record(image_of(1), keys, spectrum, "00000000")
    with pytest.raises(io.UnsupportedOperation):
        _add_and_fail(path, record)
    assert Store.open(path).rows() == []
    assert not list(path.rglob(".writing*"))


def _add_and_fail(path: Path, record: Record) -> None:
    with StoreWriter(path, "salt") as writer:
        writer.add(record)
        raise io.UnsupportedOperation


def test_difference_hash_against_cell_means_by_hand() -> None:
    pixels = image_of(5, 45, 61).pixels
    rows, columns = np.linspace(0, 45, 9).astype(int), np.linspace(0, 61, 10).astype(int)
    bits = ""
    for row in range(8):
        cells = [
            pixels[rows[row] : rows[row + 1], columns[cell] : columns[cell + 1]].astype(float).mean()
            for cell in range(9)
        ]
        bits += "".join("1" if right > left else "0" for left, right in pairwise(cells))
    assert difference_hash(pixels) == f"{int(bits, 2):016x}"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(bytes(data))


def test_the_catalog_is_rebuilt_from_the_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [image_of(seed) for seed in range(9)]
    path = write_store(tmp_path / "store", images, shard_bytes=12_000)
    catalogs = sorted((path / "catalog" / "xray").glob("*.parquet"))
    assert len(catalogs) > 2
    content = [file.read_bytes() for file in catalogs]
    rows = Store.open(path).rows()
    catalogs[0].unlink()
    flip(catalogs[1], len(content[1]) // 2)
    write_parquet(read_parquet(catalogs[2]).slice(1), catalogs[2])
    assert fsck(path) == 1
    said = capsys.readouterr().out
    assert "cannot be read: its checksum differs" in said
    assert "differs from the rows in its shard" in said
    assert "belongs to no catalog" in said
    assert fsck(path, rebuild=True) == 0
    assert capsys.readouterr().out.count("rebuilt: catalog/xray/") == 3
    assert [file.read_bytes() for file in catalogs] == content
    assert Store.open(path).rows() == rows


def test_rows_are_found_behind_damage_and_not_believed_when_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_store(tmp_path / "store", [image_of(seed) for seed in range(3)])
    (shard,) = (path / "shards" / "xray").glob("*.tar")
    (catalog,) = (path / "catalog" / "xray").glob("*.parquet")
    name, offset, size = shard_members(shard)[-1]
    assert name == "rows.parquet"
    flip(shard, 5)  # a tar header: nothing behind it can be listed
    assert fsck(path) == 1
    assert "its images are whole, but tar headers" in capsys.readouterr().out
    catalog.unlink()
    assert fsck(path, rebuild=True) == 1
    assert "rebuilt: catalog" in capsys.readouterr().out
    flip(shard, offset + size // 2)
    catalog.unlink()
    fsck(path, rebuild=True)
    assert "its shard carries no rows that are whole" in capsys.readouterr().out
    assert not catalog.exists()


def test_what_a_killed_ingest_left_is_not_taken_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_store(tmp_path / "store", [image_of(seed) for seed in range(3)])
    other = write_store(tmp_path / "other", [image_of(1)])
    (left,) = (other / "shards" / "xray").glob("*.tar")
    shutil.copy(left, path / "shards" / "xray" / left.name)
    assert fsck(path, rebuild=True) == 0
    assert "its images are in other shards, too; the shard may be removed" in capsys.readouterr().out
    assert len(Store.open(path).rows()) == 3
