"""The index says what the catalog says, brings series together, and is noticed when it is damaged."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from samples import make_store

from scoutview.batches import Archive
from scoutview.errors import RunError
from scoutview.store import SPLITS, Annotation, IndexRow, Store, StoreIndex, add_annotations, open_index, text_hash
from scoutview.store.catalog import read_parquet, rows_of, rows_to_table, write_parquet


def test_every_record_holds_the_values_of_its_row_and_survives_pickling(small_store: Path) -> None:
    rows = {(row.shard, row.offset_in_shard): row for row in Store.open(small_store).rows()}
    in_order = Store.open(small_store).rows()
    index = pickle.loads(pickle.dumps(open_index(Store.open(small_store))))
    assert len(index) == len(rows)
    images = {}
    for number in range(len(index)):
        record = index.row(number)
        row = rows[record.shard, record.offset_in_shard]
        images[row.image] = number
        assert in_order[index.row_number[number]] == row
        for field in fields(IndexRow):
            if field.name != "place":
                assert getattr(record, field.name) == getattr(row, field.name), field.name
        assert SPLITS[index.split[number]] == row.split
        assert index.image[number] == text_hash([row.image])[0]
    assert len(images) == len(rows)


def test_images_of_a_series_lie_together_wherever_the_shards_have_them(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", images=24, series=5)
    index = open_index(store)
    by_place = {(row.shard, row.offset_in_shard): row.series for row in store.rows()}
    rows = store.rows()
    assert [rows[index.row_number[number]].offset_in_shard for number in range(len(index))] == [
        index.row(number).offset_in_shard for number in range(len(index))
    ]
    for first, last in index.ranges.values():
        names = [by_place[index.row(number).shard, index.row(number).offset_in_shard] for number in range(first, last)]
        assert names == [
            f"s{number}" for number in range(5) for _ in range(len([n for n in names if n == f"s{number}"]))
        ]
        assert [f"s{number}" for number in index.series[first:last]] == names
    archive = Archive.open([tmp_path / "store"])
    assert [row.series for row in archive.rows][:24] == [f"s{n % 5}" for n in sorted(range(24), key=lambda n: n % 5)]
    assert [archive.rows[number].image for number in range(96)] == [row.image for row in archive.rows]


def test_the_index_follows_the_catalog(tmp_path: Path) -> None:
    path = tmp_path / "store"
    make_store(path, images=8)
    first = open_index(Store.open(path)).folder
    catalog = sorted((path / "catalog" / "ct").glob("*.parquet"))[0]
    rows = [replace(row, image=f"more-{row.image}", shard="m.tar") for row in rows_of(read_parquet(catalog))]
    write_parquet(rows_to_table(rows), path / "catalog" / "ct" / "m.parquet")
    index = open_index(Store.open(path))
    assert index.folder != first
    assert not first.exists()
    assert len(index) == 4 * 8 + 8


def use(index: StoreIndex, name: str) -> None:
    """Read a file of the index as training does."""
    if name == "records":
        for number in range(len(index)):
            index.row(number)
    else:
        getattr(index, {"row": "row_number"}.get(name, name))


def test_flips_in_the_index_are_noticed_before_use(tmp_path: Path) -> None:
    path = tmp_path / "store"
    make_store(path, images=4)
    folder = open_index(Store.open(path)).folder
    for name in ("records", "series", "split", "image", "row"):
        file = folder / f"{name}.bin"
        original = file.read_bytes()
        for place in np.linspace(0, len(original) - 1, 60).astype(int):
            data = bytearray(original)
            data[place] ^= 16
            file.write_bytes(bytes(data))
            index = open_index(Store.open(path))
            with pytest.raises(RunError, match="made again from the catalog"):
                use(index, name)
        file.write_bytes(original)
    (folder / "records.bin").write_bytes(b"")
    assert len(open_index(Store.open(path))) == 16  # built again


def test_several_processes_build_one_index(tmp_path: Path) -> None:
    path = tmp_path / "store"
    make_store(path, images=4)
    code = f"from scoutview.store import Store, open_index; print(len(open_index(Store.open({str(path)!r}))))"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["16"] * 3
    assert not list((path / "catalog" / "merged").glob("*.building"))


def test_a_store_that_cannot_be_written_to_is_indexed_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "store", images=4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "store" not in str(path) and access(path, mode))
    assert open_index(Store.open(tmp_path / "store")).folder.is_relative_to(tmp_path / "cache")


def test_splits_of_annotations_hold_and_labels_reach_their_images(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = make_store(path, images=24, series=5)
    said = [Annotation("ct-0003", "split", "split", "test"), Annotation("s2", "split", "split", "validation")]
    add_annotations(store, [*said, Annotation("s1", "label", "kind", "odd")])
    archive = Archive.open([path])
    expected = {"train": [], "validation": [], "test": []}
    for index, row in enumerate(archive.rows):
        split = "test" if row.image == "ct-0003" else "validation" if row.series == "s2" else row.split
        expected[split].append(index)
    for split, indices in expected.items():
        assert archive.indices(splits=(split,)) == indices
        selected = [i for part in archive.select((split,)).values() for i in part.indices(0, len(part)).tolist()]
        assert selected == indices
    assert archive.labelled("kind") == [index for index, row in enumerate(archive.rows) if row.series == "s1"]
    assert set(archive.label_values("kind", archive.labelled("kind"))) == {"odd"}


def test_a_start_without_annotations_does_not_read_the_merged_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has gigabytes at 10^8 images, and every rank of a node would read them."""
    store = make_store(tmp_path / "store", images=4)
    expected = {name: len(selection) for name, selection in Archive.open([store.path]).select(("train",)).items()}
    shutil.rmtree(store.path / "annotations")

    def unwanted(_: Store) -> None:
        raise AssertionError("the merged catalog is read")

    monkeypatch.setattr(Store, "merged_catalog", unwanted)
    selections = Archive.open([store.path]).select(("train",))
    assert {name: len(selection) for name, selection in selections.items()} == expected
