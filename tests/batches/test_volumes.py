"""Volumes of an archive: which ones, slabs against slices read one by one, heads against what was drawn."""

from __future__ import annotations

import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import textured

from scoutview.batches import Archive, Volumes, read_head, read_slab, read_unit_image
from scoutview.images import Image, encode_spectrum, radial_spectrum
from scoutview.images.types import to_int16
from scoutview.ingest import run_ingest
from scoutview.phantoms import write_phantoms
from scoutview.phantoms.head_ct import draw_head_ct
from scoutview.preprocessing import Box, NoBrainError, Preprocessing, head_volume
from scoutview.store import DamagedRecordError, StoreWriter, make_record, volumes_of
from scoutview.store.shards import Keys

SLICES = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of CT and MR, and radiographs, as ingest takes them."""
    folder = tmp_path_factory.mktemp("volumes")
    write_phantoms(folder / "source", patients={"ct": 3, "mr": 2, "xray": 1}, seed=3, size=96, slices=SLICES)
    run_ingest([folder / "source" / "images"], folder / "store", workers=1)
    return folder / "store"


def listed(archive: Archive, modality: str, where: str | None = None) -> Volumes:
    return Volumes.of(archive, archive.select(where=where)[modality])


def test_the_volumes_are_those_of_the_catalog(store: Path) -> None:
    archive = Archive.open([store])
    for modality, count in (("ct", 3), ("mr", 2), ("xray", 0)):
        volumes = listed(archive, modality)
        expected = [v for v in volumes_of(archive.stores[0].rows()) if v.rows[0].modality == modality]
        assert len(expected) == len(volumes) == count
        assert sorted(volumes, key=lambda volume: volume.stack) == expected
        assert (volumes.incomplete, volumes.uneven) == (0, 0)
        assert pickle.loads(pickle.dumps(volumes))[:] == volumes[:]
    with pytest.raises(IndexError):
        listed(archive, "ct")[3]


def test_a_volume_of_which_a_slice_is_not_selected_is_left_out_and_counted(store: Path) -> None:
    archive = Archive.open([store])
    whole = listed(archive, "ct")
    cut, absent, kept = (volume.rows for volume in whole)
    where = f"image not in ('{cut[4].image}', {', '.join(repr(row.image) for row in absent)})"
    volumes = listed(archive, "ct", where)
    assert [volume.stack for volume in volumes] == [kept[0].stack]
    assert volumes.incomplete == 1


def test_slabs_of_ct_equal_images_read_one_by_one(store: Path) -> None:
    archive = Archive.open([store])
    preprocessing = Preprocessing()
    index_of = {row.image: index for index, row in enumerate(archive.rows)}
    volumes = listed(archive, "ct")
    for number, volume in enumerate(volumes):
        expected = np.stack([read_unit_image(archive, index_of[row.image], preprocessing)[0] for row in volume.rows])
        whole = read_slab(volumes.store(number), volume, preprocessing)
        np.testing.assert_array_equal(whole, expected)
        for first, last in ((0, 1), (3, 8), (SLICES - 1, SLICES)):
            slab = read_slab(volumes.store(number), volume, preprocessing, first, last)
            np.testing.assert_array_equal(slab, expected[first:last])
    for first, last in ((0, SLICES + 1), (-1, 2), (3, 3)):
        with pytest.raises(ValueError, match="are none of a volume of 12"):
            read_slab(volumes.store(0), volume, preprocessing, first, last)


def write_volume(folder: Path, slopes: list[float], size: int = 24, **changes: object) -> Archive:
    """A store of one MR volume whose slices have a slope and an offset of their own."""
    generator = np.random.default_rng(0)
    with StoreWriter(folder, "test-salt") as writer:
        for number, slope in enumerate(slopes):
            stored, *_ = to_int16((textured(generator, size, size) * 1000).astype(np.int16))
            image = Image(
                stored,
                "mr",
                slope,
                10.0 * number,
                spacing=(1, 1),
                stack="stack",
                slice_index=number,
                slice_spacing=2.0,
                affine=(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 2.0 * number),
            )
            keys = Keys(f"image-{number}", "patient", "", "series", *[""] * 5, "train", "stack")
            image = replace(image, **changes)
            spectrum = encode_spectrum(radial_spectrum(stored.astype(np.float32) / 1000))
            writer.add(make_record(image, keys, spectrum, "other"))
        writer.commit()
    return Archive.open([folder])


@pytest.mark.parametrize("slopes", [[1.0, 1.0, 1.0], [0.5, 2.0, 1.0, 7.0], [-1.0, -2.0, -1.0]])
def test_slices_of_other_modalities_share_the_range_of_their_volume(tmp_path: Path, slopes: list[float]) -> None:
    archive = write_volume(tmp_path / "store", slopes)
    (volume,) = listed(archive, "mr")
    store = archive.stores[0]
    physical = [store.read(row).astype(np.float64) * row.slope + row.offset for row in volume.rows]
    counts = [np.sort(values.ravel()) for values in physical]
    # The percentiles are values that occur: of 576 the third and the 574th.
    first, last = (2, 573) if slopes[0] > 0 else (576 - 574, 576 - 3)
    low, high = min(values[first] for values in counts), max(values[last] for values in counts)
    expected = np.clip((np.stack(physical) - low) / (high - low), 0, 1)
    if slopes[0] < 0:
        expected = 1 - expected  # brightness follows what is stored, as in single images
    np.testing.assert_allclose(read_slab(store, volume, Preprocessing()), expected, atol=2e-6)
    np.testing.assert_allclose(read_slab(store, volume, Preprocessing(), 1, 3), expected[1:3], atol=2e-6)


def test_volumes_with_gaps_are_left_out_and_counted(tmp_path: Path) -> None:
    volumes = listed(write_volume(tmp_path / "store", [1.0] * 4, flags=("gap",)), "mr")
    assert (len(volumes), volumes.uneven) == (0, 1)


def test_an_image_in_two_stores_makes_one_volume(tmp_path: Path, store: Path) -> None:
    again = tmp_path / "again"
    source = store.parent / "source" / "images" / "ct"
    run_ingest([source], again, workers=1)
    archive = Archive.open([store, again])
    assert len(listed(archive, "ct")) == 3


def test_a_slab_takes_the_memory_of_a_slab(tmp_path: Path) -> None:
    archive = write_volume(tmp_path / "store", [1.0] * 40, size=128)
    (volume,) = listed(archive, "mr")
    read_slab(archive.stores[0], volume, Preprocessing(), 0, 1)
    tracemalloc.start()
    slab = read_slab(archive.stores[0], volume, Preprocessing(), 10, 14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # float32 slab, its codestreams (at most int16), and a few planes of work.
    assert peak < slab.nbytes * 1.5 + 5 * 4 * 128 * 128 < volume.shape[0] * 128 * 128 * 4 / 2


def test_damage_is_said(tmp_path: Path) -> None:
    archive = write_volume(tmp_path / "store", [1.0] * 4)
    (volume,) = listed(archive, "mr")
    (shard,) = (tmp_path / "store" / "shards" / "mr").glob("*.tar")
    data = bytearray(shard.read_bytes())
    data[volume.rows[2].offset_in_shard + 100] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    archive = Archive.open([tmp_path / "store"])
    read_slab(archive.stores[0], volume, Preprocessing(), 0, 2)
    with pytest.raises(DamagedRecordError, match="image-2"):
        read_slab(archive.stores[0], volume, Preprocessing())


def test_heads_are_those_that_were_drawn(store: Path) -> None:
    archive = Archive.open([store])
    volumes = listed(archive, "ct")
    drawn = [np.stack([part.pixels for part in draw_head_ct(3, index, SLICES, 96)]) for index in range(3)]
    found = set()
    for number, volume in enumerate(volumes):
        head = read_head(volumes.store(number), volume)
        affine = volume.affine()
        assert affine is not None
        errors = [np.abs(head_volume(values, affine).pixels - head.pixels).max() for values in drawn]
        assert min(errors) < 1e-5
        found.add(int(np.argmin(errors)))
        assert head.scanned.all()
        # Bone around, brain within, the top of the head at the end of the axis.
        assert head.affine[2, 2] > 0
    assert found == {0, 1, 2}


def test_what_is_no_head_is_refused_by_name(tmp_path: Path, store: Path) -> None:
    archive = Archive.open([store])
    volumes = listed(archive, "mr")
    with pytest.raises(NoBrainError, match=f"volume {volumes[0].stack} is no evenly spaced CT in HU"):
        read_head(volumes.store(0), volumes[0])
    flat = write_volume(tmp_path / "store", [1.0] * 4, modality="ct", units="HU")
    (volume,) = listed(flat, "ct")
    with pytest.raises(NoBrainError, match="volume stack: the largest piece"):
        read_head(flat.stores[0], volume)
    asked = read_head(flat.stores[0], volume, find_box=lambda values, affine: Box((12.0, 12.0, 3.0), (6.0, 20.0, 20.0)))
    assert asked.pixels.shape == (40, 224, 192)
    squashed = replace(volume, rows=tuple(replace(row, affine=(1.0,) * 12) for row in volume.rows))
    with pytest.raises(NoBrainError, match="volume stack: the affine is not one of a volume"):
        read_head(flat.stores[0], squashed)
