"""Filters choose what the same condition in Python chooses, and can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import make_store

from scoutview.batches import Archive
from scoutview.errors import RunError, UsageError
from scoutview.store import Annotation, ImageRow, Store, add_annotations, passing_rows, read_annotations


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_store(tmp_path_factory.mktemp("filter's") / "store", images=24, series=5)
    add_annotations(store, [Annotation("ct-0001", "label", "ct_rough", "0"), Annotation("s3", "label", "kind", "odd")])
    return store


@pytest.mark.parametrize(
    ("expression", "condition"),
    [
        ("modality = 'ct' and nbytes > 9000", lambda row: row.modality == "ct" and row.nbytes > 9000),
        ("slice_spacing <= 2.5", lambda row: False),
        ("slice_spacing is null -- unknown", lambda row: True),
        ("series in ('s1', 's4') or low * slope + \"offset\" < 30",
         lambda row: row.series in ("s1", "s4") or row.low * row.slope + row.offset < 30),
        ("split = (select max(split) from catalog)", lambda row: row.split == "validation"),
        ("series in (select target from annotations where name = 'kind')", lambda row: row.series == "s3"),
    ],
)  # fmt: skip
def test_a_filter_chooses_what_python_chooses(
    store: Store, expression: str, condition: Callable[[ImageRow], bool]
) -> None:
    assert passing_rows(store, expression).tolist() == [condition(row) for row in store.rows()]


def test_replaced_statements_are_not_seen(store: Store) -> None:
    rough = "image in (select target from annotations where value = '1')"
    said = {entry.target for entry in read_annotations(store) if entry.value == "1"}
    assert "ct-0001" not in said
    assert passing_rows(store, rough).tolist() == [row.image in said for row in store.rows()]


def test_an_archive_selects_what_passes_in_its_splits(store: Store) -> None:
    archive = Archive.open([store.path])
    selections = archive.select(("train",), "modality in ('ct', 'us') and series <> 's2'")
    assert list(selections) == ["ct", "us"]
    for modality, selection in selections.items():
        found = [archive.rows[int(index)] for index in selection.indices(0, len(selection))]
        assert {row.image for row in found} == {
            row.image
            for row in store.rows()
            if row.modality == modality and row.split == "train" and row.series != "s2"
        }
        names = np.array([int(row.series[1:]) for row in found])
        assert (np.diff(names) >= 0).all()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


def test_a_flipped_byte_of_the_merged_catalog_never_changes_what_passes(tmp_path: Path) -> None:
    """DuckDB, which reads it, checks no page: a damaged file has to be made again before."""
    store = make_store(tmp_path / "store", images=8)
    expression = "nbytes > 7000 and split = 'train' or low < 40"
    expected = passing_rows(store, expression).tolist()
    merged = store.merged_catalog()
    assert merged is not None
    data = merged.read_bytes()
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    places = [*range(0, len(data), 2999), *range(end - 12, end, 3), *range(len(data) - 8, len(data))]
    for place in places:
        merged.write_bytes(flipped(data, place))
        assert passing_rows(store, expression).tolist() == expected, place
        assert merged.read_bytes() == data, place


def test_a_flipped_byte_of_annotations_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", images=8)
    expression = "image in (select target from annotations where value = '1')"
    expected = passing_rows(store, expression).tolist()
    file = sorted((store.path / "annotations").glob("*.parquet"))[0]
    data = file.read_bytes()
    refused = 0
    for place in [*range(0, len(data) - 8, 331), *range(len(data) - 8, len(data))]:
        file.write_bytes(flipped(data, place))
        try:
            assert passing_rows(store, expression).tolist() == expected, place
        except RunError:
            refused += 1
    assert refused >= 5


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("slice_thickness <= 2.5", "slice_thickness.*; the catalog has the columns image, modality, shard"),
        ("modality = ", "no SQL expression"),
        ("true; drop view catalog", "no SQL expression"),
        ("true) union select (1", "more than one expression"),
        ("true) from catalog where (true", "more than one expression"),
        ("image in (select content from read_text('/etc/hostname'))", "file system operations are disabled"),
        ("image in (select filename from read_blob('/etc/*'))", "file system operations are disabled"),
        ("random() < 0.5", "random gives another value each time"),
        ("now() > '2020-01-01'::timestamp", "now gives another value each time"),
        ("modality", "where 'modality'"),
        ("modality = 'pet'", "no image is left by the splits train, validation, test and where"),
    ],
)
def test_anything_but_an_expression_over_the_catalog_is_refused(store: Store, expression: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Archive.open([store.path]).select(where=expression)
