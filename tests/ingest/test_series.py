"""Series become volumes: every trap right or refused, against the field that the slices were sampled from."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from source_files import picture, write_dicom

from scoutview.ingest import read_file, run_ingest
from scoutview.ingest.planes import Plane, SliceHeader
from scoutview.ingest.rules import Rules
from scoutview.ingest.stacks import assemble
from scoutview.phantoms.trap_files import Slice, write_slice
from scoutview.phantoms.traps import CORONAL, OBLIQUE, TRAPS, Trap, largest_error, sampled, series, write_all
from scoutview.store import DamagedRecordError, Store, read_volume, volumes_of
from scoutview.store.reading import Store as ReadingStore


def check(store: Store, trap: Trap) -> None:
    """Each volume is one of the true ones, each true one is found, and nothing else is there."""
    volumes = volumes_of(store.rows())
    missing = list(trap.volumes)
    for volume in volumes:
        values, affine = read_volume(store, volume), volume.affine()
        assert affine is not None
        errors = [largest_error(values, affine, truth) for truth in missing if truth.slices == len(values)]
        assert min(errors, default=np.inf) <= trap.allowed, (trap.name, errors)
        del missing[int(np.argmin(errors))]
    assert missing == []
    assert sum(not row.stack for row in store.rows()) == trap.images


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_a_trap_is_right_or_refused(tmp_path: Path, trap: Trap) -> None:
    trap.write(tmp_path / "source")
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert summary.reasons == trap.refused
    assert summary.volumes == len(trap.volumes)
    check(Store.open(tmp_path / "store"), trap)
    again = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert again.counts() == summary.counts()


def test_slices_lie_in_order_in_one_shard_and_a_part_is_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_all(tmp_path / "source" / str(number), sampled(series(count=9)))
    run_ingest([tmp_path / "source"], tmp_path / "store", workers=2)
    store = Store.open(tmp_path / "store")
    volumes = volumes_of(store.rows())
    assert [volume.shape for volume in volumes] == [(9, 32, 40)] * 3
    whole = {volume.stack: read_volume(store, volume) for volume in volumes}
    reads: list[tuple[int, int]] = []
    original = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        reads.append((length, offset))
        return original(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    for volume in volumes:
        offsets = [row.offset_in_shard for row in volume.rows]
        assert offsets == sorted(offsets)
        assert len({row.shard for row in volume.rows}) == 1
        between = [row for row in store.rows() if offsets[0] <= row.offset_in_shard <= offsets[-1]]
        assert {row.stack for row in between} == {volume.stack}
        reads.clear()
        part = read_volume(store, volume, 2, 6)
        assert len(reads) == 1
        np.testing.assert_array_equal(part, whole[volume.stack][2:6])
        assert volume.spacing == pytest.approx((5.0, 2.0, 1.5))


def test_damage_within_a_volume_is_noticed(tmp_path: Path) -> None:
    write_all(tmp_path / "source", sampled(series()))
    run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    store = ReadingStore.open(tmp_path / "store")
    (volume,) = volumes_of(store.rows())
    row = volume.rows[3]
    shard = store.path / "shards" / "ct" / row.shard
    data = bytearray(shard.read_bytes())
    data[row.offset_in_shard + row.nbytes // 2] ^= 1
    shard.write_bytes(bytes(data))
    read_volume(store, volume, 0, 3)
    with pytest.raises(DamagedRecordError):
        read_volume(store, volume)


def test_a_gap_is_kept_when_that_is_allowed_and_flagged(tmp_path: Path) -> None:
    slices = sampled(series())
    write_all(tmp_path / "source", slices[:3] + slices[4:])
    strict = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert (strict.taken, strict.reasons) == (0, {"gap": 6})
    (entry, *_) = Store.open(tmp_path / "store").quarantined()
    assert entry["detail"] == "slices 3 and 4 of 6 are 10.00 mm apart where the others are 5.00 mm"
    lenient = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1, rules=Rules(gaps="allow"))
    assert (lenient.taken, lenient.volumes, lenient.reasons) == (6, 1, {})
    store = Store.open(tmp_path / "store")
    (volume,) = volumes_of(store.rows())
    assert not volume.even
    assert volume.spacing is not None
    assert volume.spacing[0] == pytest.approx(5.0)
    heights = [row.slice_position for row in volume.rows]
    np.testing.assert_allclose(np.diff(np.array(heights)), [5, 5, 10, 5, 5])
    for place in range(6):  # each slice knows where it lies, whatever the distances
        affine = volume.affine(place)
        assert affine is not None
        assert largest_error(read_volume(store, volume, place, place + 1), affine, TRAPS[0].volumes[0]) <= 0.51
    assert store.quarantined() == []


def test_the_missing_slice_arrives_later(tmp_path: Path) -> None:
    slices = sampled(series())
    write_all(tmp_path / "source", slices[:3] + slices[4:])
    run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    write_slice(tmp_path / "source" / "late.dcm", slices[3])
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert (summary.taken, summary.volumes, summary.reasons) == (7, 1, {})
    check(Store.open(tmp_path / "store"), TRAPS[0])


def test_a_constant_slice_at_an_end_shortens_and_within_flags(tmp_path: Path) -> None:
    slices = sampled(series(count=9))
    for place in (0, 4):
        slices[place] = replace(slices[place], values=np.full((32, 40), -1000.0))
    write_all(tmp_path / "source", slices)
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert (summary.taken, summary.volumes, summary.reasons) == (7, 1, {"constant": 2})
    (volume,) = volumes_of(Store.open(tmp_path / "store").rows())
    assert [row.slice_index for row in volume.rows] == [1, 2, 3, 5, 6, 7, 8]
    assert not volume.even


def test_head_slices_without_air_are_calibrated_by_their_volume(tmp_path: Path) -> None:
    slices = sampled(series())
    inner = replace(slices[3], values=np.clip(slices[3].values, -100, 1000))  # type: ignore[arg-type]
    write_all(tmp_path / "source", [*slices[:3], inner, *slices[4:]])
    assert run_ingest([tmp_path / "source"], tmp_path / "store", workers=1).volumes == 1
    none = [replace(item, values=np.clip(item.values, -100, 1000), series="1.2.3") for item in slices]  # type: ignore[arg-type]
    write_all(tmp_path / "cropped", none)
    strict = run_ingest([tmp_path / "cropped"], tmp_path / "store", workers=1)
    assert strict.reasons == {"not_hu": 7}
    lenient = run_ingest([tmp_path / "cropped"], tmp_path / "other", workers=1, rules=Rules(air="optional"))
    assert (lenient.volumes, lenient.reasons) == (1, {})
    assert all("no_air" in row.flags.split() for row in Store.open(tmp_path / "other").rows())


def test_an_intercept_applied_twice_is_not_hu(tmp_path: Path) -> None:
    shifted = [replace(item, intercept=-2524.0, values=item.values - 1024.0) for item in sampled(series())]  # type: ignore[operator]
    write_all(tmp_path / "source", [replace(item, values=np.minimum(item.values, -400)) for item in shifted])  # type: ignore[arg-type,type-var]
    assert run_ingest([tmp_path / "source"], tmp_path / "store", workers=1).reasons == {"not_hu": 7}


def test_two_slices_are_no_volume(tmp_path: Path) -> None:
    write_all(tmp_path / "source", sampled(series(count=2)))
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert (summary.taken, summary.volumes) == (2, 0)
    assert {row.stack for row in Store.open(tmp_path / "store").rows()} == {""}


def test_slices_without_position_are_images_and_say_so(tmp_path: Path) -> None:
    write_all(tmp_path / "source", sampled(series()), ImagePositionPatient=None)
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert (summary.taken, summary.volumes) == (7, 0)
    assert all("ungeometric" in row.flags.split() for row in Store.open(tmp_path / "store").rows())


def test_a_tilted_gantry_is_flagged(tmp_path: Path) -> None:
    trap = next(trap for trap in TRAPS if trap.name == "tilted gantry")
    trap.write(tmp_path / "source")
    run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    (volume,) = volumes_of(Store.open(tmp_path / "store").rows())
    assert {row.flags for row in volume.rows} == {"burned_in_unknown gantry_tilt"}
    assert volume.spacing is not None
    assert volume.spacing[0] == pytest.approx(5 * np.cos(np.deg2rad(18)))


def header(height: float, order: float | None = None, **distinctive: str) -> SliceHeader:
    plane = Plane((0.0, 0.0, height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0))
    texts = tuple(distinctive.get(name, "") for name in "abcdefghij")
    return SliceHeader(plane, ("64", "64", "", ""), texts, None if order is None else (0.0, order))


def test_every_slice_is_in_one_place_whatever_the_series() -> None:
    generator = np.random.default_rng(0)
    for trial in range(300):
        count = int(generator.integers(1, 30))
        slices = [
            header(
                float(generator.choice([1.0, 2.5]) * generator.integers(0, 12)),
                float(generator.integers(0, 40)) if trial % 3 else None,
                a=str(generator.integers(0, 3)),
                h=str(generator.integers(0, 9)),
            )
            for _ in range(count)
        ]
        stacks, loose = assemble(slices, allow_gaps=bool(trial % 2))
        assert sorted([*loose, *(member for stack in stacks for member in stack.members)]) == list(range(count))
        for stack in stacks:
            gaps = np.diff(stack.heights)
            if not stack.reason and "gap" not in stack.flags:
                assert gaps.min() > 0
                assert np.abs(gaps - gaps.mean()).max() <= max(0.1, 0.05 * gaps.mean()) * 2


def test_echoes_and_phases_of_one_series_are_told_apart_together() -> None:
    slices = [
        header(5.0 * place, a=str(echo), c=str(phase)) for place in range(6) for echo in range(2) for phase in range(3)
    ]
    stacks, loose = assemble(slices)
    assert loose == []
    assert [len(stack.members) for stack in stacks] == [6] * 6
    for stack in stacks:
        assert len({slices[member].distinctive for member in stack.members}) == 1


def test_an_acquisition_number_per_slice_does_not_tear_a_volume_apart() -> None:
    slices = [header(4.0 * place, h=str(place)) for place in range(12)]
    stacks, loose = assemble(slices)
    assert ([len(stack.members) for stack in stacks], loose) == ([12], [])


def test_images_of_one_place_are_a_film_and_no_volume() -> None:
    stacks, loose = assemble([header(4.0, float(time)) for time in range(20)])
    assert (stacks, loose) == ([], list(range(20)))


def test_places_that_repeat_unevenly_are_refused() -> None:
    stacks, _ = assemble([header(4.0 * place, float(place)) for place in (0, 1, 2, 3, 3, 4)])
    assert [stack.reason for stack in stacks] == ["duplicate_position"]


def test_an_enhanced_file_gives_the_values_of_pydicom(tmp_path: Path) -> None:
    trap = next(trap for trap in TRAPS if trap.name == "enhanced multi-frame")
    trap.write(tmp_path)
    images = read_file(tmp_path / "enhanced.dcm")
    frames = pydicom.dcmread(tmp_path / "enhanced.dcm").pixel_array
    positions = [
        item.PlanePositionSequence[0].ImagePositionPatient
        for item in pydicom.dcmread(tmp_path / "enhanced.dcm").PerFrameFunctionalGroupsSequence
    ]
    normal = np.cross(*OBLIQUE)
    order = np.argsort([np.dot(position, normal) for position in positions])
    for image, number in zip(images, order, strict=True):
        np.testing.assert_array_equal(image.pixels + image.offset, frames[number] - 1500.0)


def test_frames_of_an_ultrasound_film_are_sampled(tmp_path: Path) -> None:
    frames = np.stack([picture(highest=255, seed=seed) for seed in range(30)]).astype(np.uint8)
    path = write_dicom(tmp_path / "source" / "a.dcm", frames[0], "US", SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1",
                       NumberOfFrames=30, PixelData=frames.tobytes())  # fmt: skip
    images = read_file(path)
    assert len(images) == 8
    for place, image in enumerate(images):
        np.testing.assert_array_equal(image.pixels, frames[int((place + 0.5) * 30 / 8)])
        assert "cine" in image.flags
    summary = run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    assert (summary.images, summary.volumes) == (8, 0)
    assert len({row.image for row in Store.open(tmp_path / "store").rows()}) == 8


def test_a_stack_of_another_orientation_is_a_volume_of_its_own(tmp_path: Path) -> None:
    first = sampled(series())
    second = [replace(item, series=first[0].series, number=item.number + 50) for item in sampled(series(CORONAL))]
    write_all(tmp_path / "source", first)
    write_all(tmp_path / "source" / "more", second)
    assert run_ingest([tmp_path / "source"], tmp_path / "store", workers=1).volumes == 2


def test_patients_who_share_a_series_uid_are_kept_apart(tmp_path: Path) -> None:
    slices: list[Slice] = sampled(series())
    write_all(tmp_path / "source" / "a", slices[:4], PatientID="ONE")
    write_all(tmp_path / "source" / "b", slices[4:], PatientID="TWO")
    run_ingest([tmp_path / "source"], tmp_path / "store", workers=1)
    volumes = volumes_of(Store.open(tmp_path / "store").rows())
    assert sorted(volume.shape[0] for volume in volumes) == [3, 4]
