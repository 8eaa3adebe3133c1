"""The largest view of an image decides how much of it is read, and only that much is read and checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import textured

from scoutview.batches import Archive, BatchPlan, read_unit_image
from scoutview.batches.kept import Kept
from scoutview.batches.loader import ViewDataset, collate_views
from scoutview.batches.reading import coarsest_level
from scoutview.batches.sampler import Draw
from scoutview.images import Image, encode_spectrum, radial_spectrum
from scoutview.images.types import to_int16
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import DamagedRecordError, StoreWriter, make_record
from scoutview.store.shards import Keys
from scoutview.views import ReferenceEnergies, ViewSettings, render_views

SMALL = ViewSettings(crops=(2, 2), sizes=(48, 32), visible=((0.3, 0.6), (0.2, 0.5)))


def store_of(path: Path, images: list[Image]) -> Archive:
    with StoreWriter(path, "salt") as writer:
        for number, image in enumerate(images):
            unit = preprocess(image.pixels, calibration_of(image), Preprocessing())
            spectrum = encode_spectrum(radial_spectrum(unit))
            keys = Keys(f"{number:032x}", f"p{number}", "", "", *[""] * 5, "train")
            writer.add(make_record(image, keys, spectrum, Preprocessing().identity()))
    return Archive.open([path])


def dataset_of(archive: Archive, settings: ViewSettings) -> ViewDataset:
    grid = np.geomspace(32, 1200, 16)
    references = ReferenceEnergies(grid, np.full((16, 6), 0.05), np.full((16, 6), 0.02))
    return ViewDataset(archive, Preprocessing(), settings, dict.fromkeys(("xray", "ct", "mr", "us"), references), 0)


def picture(seed: int, modality: Any, **options: Any) -> Image:
    stored, slope, offset, shifted = to_int16(
        (textured(np.random.default_rng(seed), 520, 640, 2.0) * 4000).astype("i2")
    )
    return Image(stored, modality, slope, offset, shifted=shifted, **options)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    kinds = [("xray", {}), ("ct", {"units": "HU"}), ("mr", {}), ("us", {})]
    images = [picture(seed, kind, **options) for seed, (kind, options) in enumerate(kinds)]
    return store_of(tmp_path_factory.mktemp("prefix") / "store", images)


def test_what_may_be_read_reduced(archive: Archive, tmp_path: Path) -> None:
    levels = {row.modality: coarsest_level(row, Preprocessing()) for row in (archive.place(i)[1] for i in range(4))}
    assert levels == {"xray": 3, "mr": 3, "ct": 0, "us": 0}
    other = Preprocessing(hounsfield=(-1000.0, 1000.0), level=(0.0, 1.0))
    assert coarsest_level(archive.place(archive.indices("xray")[0])[1], other) == 0
    full = np.random.default_rng(0).integers(0, 65536, (300, 300)).astype(np.uint16)
    stored, slope, offset, shifted = to_int16(full)
    wide = store_of(tmp_path / "store", [Image(stored, "xray", slope, offset, shifted=shifted)])
    assert coarsest_level(wide.place(0)[1], Preprocessing()) == 0


def test_views_from_the_prefix_are_the_views(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(archive, SMALL)
    draws = [Draw(step, 0, archive.indices(name)[0]) for step in range(6) for name in ("xray", "mr")]
    part = collate_views([dataset[draw] for draw in draws])
    assert all(max(dataset[draw].canvas.shape) <= 320 for draw in draws)
    assert {level for _, level in dataset.kept.values} >= {1, 2}
    monkeypatch.setattr("scoutview.batches.loader.coarsest_level", lambda *_: 0)
    whole = collate_views([replace(dataset, kept=Kept(0))[draw] for draw in draws])
    assert int(whole.views.reduced.max()) == 0
    sizes = SMALL.view_sizes()
    for one, other in zip(render_views(part.views, sizes), render_views(whole.views, sizes), strict=True):
        assert (one - other).square().mean().sqrt() < 0.003
        assert (one - other).abs().max() < 0.05  # at the brightest pixels, which preprocessing clips


def test_only_the_prefix_is_read_and_checked(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = store_of(tmp_path / "store", [picture(seed, "xray") for seed in range(2)])
    _, row = archive.place(0)
    dataset, draw = replace(dataset_of(archive, SMALL), kept=Kept(0)), Draw(3, 0, 0)
    expected = dataset[draw]
    shard = tmp_path / "store" / "shards" / "xray" / row.shard
    original = shard.read_bytes()

    def damage(place: int) -> None:
        data = bytearray(original)
        data[place] ^= 4
        shard.write_bytes(bytes(data))

    damage(row.offset_in_shard + row.nbytes - 10)
    np.testing.assert_array_equal(dataset[draw].canvas.pixels, expected.canvas.pixels)
    with pytest.raises(DamagedRecordError):
        read_unit_image(archive, 0, Preprocessing())
    damage(row.offset_in_shard + row.prefix_nbytes_8 // 2)
    monkeypatch.setattr("scoutview.store.reading.decode", lambda *_: pytest.fail("decoded before it was checked"))
    with pytest.raises(DamagedRecordError):
        dataset[draw]


def test_a_damaged_image_is_replaced_by_its_lanes_next_on_any_rank(tmp_path: Path) -> None:
    archive = store_of(tmp_path / "store", [picture(seed, "xray") for seed in range(24)])
    plan = BatchPlan.make(archive.select(), 4, 0, spares=True)
    dataset = replace(dataset_of(archive, SMALL), kept=Kept(0))
    whole = [[dataset[draw].draw.index for draw in plan.batch(step)] for step in range(12)]
    assert whole == [[draw.index for draw in plan.batch(step)] for step in range(12)]
    for index in (5, 6, 17):
        _, row = archive.place(index)
        shard = tmp_path / "store" / "shards" / "xray" / row.shard
        data = bytearray(shard.read_bytes())
        data[row.spectrum_offset + 3] ^= 1
        shard.write_bytes(bytes(data))
    for step in range(12):
        alone = [dataset[draw] for draw in plan.batch(step)]
        for place, sample in enumerate(alone):
            lane = [plan.batch(later)[place].index for later in (step, step + 2, step + 4, step + 6)]
            assert sample.draw.index == next(index for index in lane if index not in (5, 6, 17))
            assert len(sample.damaged) == lane.index(sample.draw.index)
            assert all(row.shard in message and "at byte" in message for message in sample.damaged)
        for ranks in (2, 4):
            parts = [dataset[draw] for rank in range(ranks) for draw in plan.batch(step, rank, ranks)]
            assert [part.draw for part in parts] == [sample.draw for sample in alone]
    with pytest.raises(DamagedRecordError):
        dataset[Draw(0, 0, 5)]
