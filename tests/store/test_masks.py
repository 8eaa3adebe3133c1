"""Masks as bytes, and what several readers of images, series and studies come to."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from samples import make_store

from scoutview.store import (
    UNCERTAIN,
    Annotation,
    add_annotations,
    bitmap_of,
    image_labels,
    mask_annotation,
    read_annotations,
    split_of,
)
from scoutview.store.catalog import read_parquet, write_parquet
from scoutview.store.masks import decode_mask, encode_mask


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_masks_come_back_as_they_were(bitmap: np.ndarray) -> None:
    annotation = mask_annotation("image", "finding", bitmap)
    np.testing.assert_array_equal(bitmap_of(annotation, *bitmap.shape), bitmap)
    assert annotation.value == str(int(bitmap.any()))
    if bitmap.any():
        found = np.argwhere(bitmap)
        (y, x), (bottom, right) = found.min(axis=0), found.max(axis=0)
        assert (annotation.x, annotation.y) == (x, y)
        assert (annotation.width, annotation.height) == (right - x + 1, bottom - y + 1)


def test_bytes_of_a_mask_are_rows_of_bits() -> None:
    bitmap = np.zeros((4, 5), dtype=bool)
    bitmap[1, 1:4] = bitmap[2, 3] = True
    rectangle, data = encode_mask(bitmap)
    assert rectangle == (1, 1, 3, 2)
    assert zlib.decompress(data) == bytes([0b11100100])


def test_masks_that_are_wrong() -> None:
    rectangle, data = encode_mask(np.ones((3, 9), dtype=bool))
    with pytest.raises(ValueError, match="empty"):
        encode_mask(np.zeros((3, 9), dtype=bool))
    with pytest.raises(ValueError, match="does not fit"):
        decode_mask(data, rectangle, 2, 9)
    with pytest.raises(ValueError, match="bytes where"):
        decode_mask(data, (0, 0, 9, 1), 3, 9)
    with pytest.raises(ValueError, match="damaged"):
        decode_mask(b"no", rectangle, 3, 9)
    with pytest.raises(ValueError, match="a label is no mask"):
        bitmap_of(Annotation("a", "label", "n", "1"), 3, 9)


def test_masks_in_a_store_are_replaced_together(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", images=2, size=48)
    target = store.rows()[0].image
    rng = np.random.default_rng(0)
    bitmaps = [rng.random((48, 56)) > 0.7 for _ in range(3)]
    add_annotations(store, [mask_annotation(target, "cyst", bitmap, "A") for bitmap in bitmaps[:2]])
    files = len(list((store.path / "annotations").iterdir()))
    add_annotations(store, [mask_annotation(target, "cyst", bitmap, "A") for bitmap in bitmaps[:2]])
    assert len(list((store.path / "annotations").iterdir())) == files
    add_annotations(store, [mask_annotation(target, "cyst", bitmaps[2], "A")])
    (mask,) = [item for item in read_annotations(store) if item.kind == "mask"]
    np.testing.assert_array_equal(bitmap_of(mask, 48, 56), bitmaps[2])


def test_files_from_before_there_were_masks(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", images=2, size=48)
    (file,) = (store.path / "annotations").iterdir()
    before = read_annotations(store)
    write_parquet(read_parquet(file).drop_columns(["mask"]), file)
    assert read_annotations(store) == before


def naive_consensus(said: dict[tuple[str, str], str], targets: tuple[str, ...]) -> str | None:
    """The rule in words: per reader the nearest statement; then the value of most, 0 of equals; open ones not."""
    votes = []
    for reader in sorted({reader for _, reader in said}):
        nearest = next((said[target, reader] for target in targets if (target, reader) in said), None)
        if nearest not in (None, UNCERTAIN):
            votes.append(nearest)
    if not votes:
        return None
    return "1" if votes.count("1") > votes.count("0") else "0"


statements = st.dictionaries(
    st.tuples(st.sampled_from(["image", "series", "study", "other"]), st.sampled_from(["", "A", "B", "C"])),
    st.sampled_from(["0", "1", UNCERTAIN]),
)


@given(statements)
def test_consensus_of_readers(said: dict[tuple[str, str], str]) -> None:
    row: Any = SimpleNamespace(image="image", series="series", study="study")
    annotations = [Annotation(t, "label", "finding", value, reader=r) for (t, r), value in said.items()]
    labels = image_labels(annotations, [row]).get("finding", {})
    assert labels.get("image") == naive_consensus(said, ("image", "series", "study"))


def test_splits_of_studies() -> None:
    row: Any = SimpleNamespace(image="i", series="s", study="t", split="train")
    assert split_of([row], [Annotation("t", "split", "split", "test")]) == {"i": "test"}
