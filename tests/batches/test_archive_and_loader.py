"""Archives of several stores, and the loader: the same batch whatever the workers; damage is noticed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import make_store

from scoutview.batches import Archive, BatchPlan, read_unit_image, view_loader
from scoutview.batches.kept import Kept
from scoutview.batches.loader import ViewDataset
from scoutview.errors import UsageError
from scoutview.preprocessing import Preprocessing, preprocess
from scoutview.store import DamagedRecordError
from scoutview.views import ViewSettings

SETTINGS = ViewSettings(crops=(2, 1), sizes=(48, 32), visible=((0.5, 1.0), (0.3, 0.6)))


def dataset_of(archive: Archive, preprocessing: Preprocessing) -> ViewDataset:
    names = archive.modalities()
    references = {name: archive.reference_energies(name, Preprocessing().identity()) for name in names}
    return ViewDataset(archive, preprocessing, SETTINGS, references, 0)


def plan_of(archive: Archive) -> BatchPlan:
    return BatchPlan.make(archive.select(), 16, 0)


def test_batches_are_the_same_with_and_without_workers_and_when_started_late(small_store: Path) -> None:
    archive = Archive.open([small_store])
    dataset, plan = dataset_of(archive, Preprocessing()), plan_of(archive)
    alone = list(view_loader(dataset, plan, 0, 4, rank=0, ranks=1, workers=0))
    helped = list(view_loader(dataset, plan, 2, 4, rank=0, ranks=1, workers=2))
    for one, other in zip(alone[2:], helped, strict=True):
        assert torch.equal(one.index, other.index)
        for name, value in vars(one.views).items():
            assert torch.equal(value, getattr(other.views, name)), name


def test_two_ranks_get_the_halves_of_the_batch(small_store: Path) -> None:
    archive = Archive.open([small_store])
    dataset, plan = dataset_of(archive, Preprocessing()), plan_of(archive)
    whole = next(view_loader(dataset, plan, 3, 4, rank=0, ranks=1, workers=0))
    halves = [next(view_loader(dataset, plan, 3, 4, rank=rank, ranks=2, workers=0)) for rank in range(2)]
    for half in halves:
        places = [int(torch.nonzero(whole.position == position)) for position in half.position]
        assert torch.equal(whole.index[places], half.index)
        assert torch.equal(whole.views.scale[places], half.views.scale)


def test_the_stored_spectrum_is_used_only_for_its_own_preprocessing(small_store: Path) -> None:
    archive = Archive.open([small_store])
    index = archive.indices("xray")[0]
    _, stored = read_unit_image(archive, index, Preprocessing())
    other = Preprocessing(hounsfield=(-1000.0, 1000.0), level=(0.0, 1.0))
    image, computed = read_unit_image(archive, index, other)
    np.testing.assert_array_equal(
        image, preprocess(archive.store(index).read(archive.rows[index]), archive.rows[index], other)
    )
    np.testing.assert_allclose(computed.power, stored.power, rtol=2e-3, atol=1e-9)
    assert not np.array_equal(computed.power, stored.power)


def test_two_stores_are_one_archive_and_an_image_in_both_counts_once(tmp_path: Path, small_store: Path) -> None:
    make_store(tmp_path / "more", images=30)
    archive = Archive.open([small_store, tmp_path / "more"])
    assert len(archive.rows) == 4 * 30
    identity = Preprocessing().identity()
    pooled = archive.reference_energies("ct", identity)
    parts = [Archive.open([path]).reference_energies("ct", identity) for path in (small_store, tmp_path / "more")]
    mean = (24 * parts[0].mean + 30 * parts[1].mean) / 54
    np.testing.assert_allclose(pooled.mean, mean)
    second = [part.deviation**2 + part.mean**2 for part in parts]
    variance = (24 * second[0] + 30 * second[1]) / 54 - mean**2
    np.testing.assert_allclose(pooled.deviation, np.sqrt(variance), rtol=1e-6)


def test_a_flipped_bit_is_noticed_before_training_on_it(tmp_path: Path, small_store: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(small_store, store)
    archive = Archive.open([store])
    row = archive.rows[archive.indices("mr")[0]]
    shard = store / "shards" / "mr" / row.shard
    data = bytearray(shard.read_bytes())
    data[row.offset_in_shard + row.nbytes // 2] ^= 4
    shard.write_bytes(data)
    with pytest.raises(DamagedRecordError, match=f"image {row.image} .* is damaged"):
        read_unit_image(archive, archive.indices("mr")[0], Preprocessing())
    with pytest.raises(DamagedRecordError):
        for _ in view_loader(dataset_of(archive, Preprocessing()), plan_of(archive), 0, 6, rank=0, ranks=1, workers=0):
            pass


def test_what_is_missing_is_said(tmp_path: Path, small_store: Path) -> None:
    archive = Archive.open([small_store])
    with pytest.raises(UsageError, match="no image has a label 'rough'; labels in the store: ct_rough, mr_rough"):
        archive.labelled("rough")
    with pytest.raises(UsageError, match="is not a store"):
        Archive.open([tmp_path])
    with pytest.raises(UsageError, match="no store has reference energies of ct for this preprocessing"):
        archive.reference_energies("ct", "other")


def test_what_is_kept_in_memory_changes_no_batch(small_store: Path) -> None:
    archive = Archive.open([small_store])
    keeping, plan = dataset_of(archive, Preprocessing()), plan_of(archive)
    reading = replace(keeping, kept=Kept(0))
    kept = list(view_loader(keeping, plan, 0, 12, rank=0, ranks=1, workers=0))
    assert {index for index, _ in keeping.kept.values} == set(range(len(archive.rows)))
    assert keeping.kept.nbytes == sum(canvas.pixels.nbytes for canvas, _ in keeping.kept.values.values())
    read = list(view_loader(reading, plan, 0, 12, rank=0, ranks=1, workers=0))
    assert not reading.kept.values
    for one, other in zip(kept, read, strict=True):
        for name, value in vars(one.views).items():
            assert torch.equal(value, getattr(other.views, name)), name
