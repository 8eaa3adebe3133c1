"""Merged and split stores hold what a union in plain Python holds, however often the work was killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from buckets import BUCKET, Faults, bucket_server, client_of
from samples import make_store

from scoutview.commands.fsck import fsck
from scoutview.commands.merge import MergeSummary, merge
from scoutview.errors import RunError, UsageError
from scoutview.images import Image, band_energies, encode_spectrum, radial_spectrum
from scoutview.objects import bucket_of
from scoutview.store import (
    Annotation,
    ImageRow,
    Store,
    StoreWriter,
    add_annotations,
    check_store,
    make_record,
    read_annotations,
    read_volume,
    volumes_of,
)
from scoutview.store.shards import Keys

PLACE = {"shard": "", "offset_in_shard": 0, "spectrum_offset": 0}
Contents = dict[str, tuple[bytes, ImageRow]]


def add_image(writer: StoreWriter, number: int, modality: str = "xray", stack: str = "", place: int = 0) -> None:
    """Image `number`: its pixels, patient, study and split follow from the number, or from the volume it lies in."""
    noise = np.random.default_rng(number).normal(0, 300, (24, 20 + number % 3 if not stack else 20))
    image = Image(noise.astype(np.int16), modality)  # type: ignore[arg-type]
    owner = stack or f"{number // 2}"
    split = ("train", "validation", "test")[hash_of(owner) % 3]
    keys = Keys(
        image=f"{number:032x}",
        patient=f"patient-{owner}",
        study=f"study-{owner}",
        series=f"series-{owner}",
        file=f"file-{number}",
        path="",
        name="",
        instance="",
        stamp=f"stamp-{number}",
        split=split,
        stack=stack,
    )
    record = make_record(image, keys, encode_spectrum(radial_spectrum(noise.astype(np.float32) / 3000)), "00000000")
    if stack:
        geometry = {"slice_index": place, "slice_spacing": 2.5, "affine": tuple(float(v) for v in range(12))}
        record = replace(record, row=replace(record.row, **geometry))
    writer.add(record)


def hash_of(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


def write_store(path: Path, numbers: Sequence[int], volumes: Sequence[int] = (), per_shard: int = 4) -> Store:
    """X-rays by their numbers, `per_shard` in a shard, and CT volumes of 6 slices, two in a shard; with statements."""
    with StoreWriter(path, "salt") as writer:
        for count, number in enumerate(numbers, start=1):
            add_image(writer, number)
            if count % per_shard == 0:
                writer.commit()
        for count, volume in enumerate(volumes, start=1):
            for place in range(6):
                add_image(writer, 1000 + 10 * volume + place, "ct", f"volume-{volume}", place)
            if count % 2 == 0:
                writer.commit()
    store = Store.open(path)
    statements = [Annotation(f"{number:032x}", "label", "odd", str(number % 2), source="odd.csv") for number in numbers]
    statements += [Annotation(f"study-{number // 2}", "label", "half", str(number // 2)) for number in numbers]
    statements += [Annotation(f"series-volume-{volume}", "label", "volume", str(volume)) for volume in volumes]
    statements += [Annotation(f"{number:032x}", "box", "spot", "1", 1, 2, 3, 4, "r") for number in numbers[:2]]
    add_annotations(store, list(dict.fromkeys(statements)))
    return store


def contents(store: Store) -> Contents:
    """image -> its pixels and its row, without its place."""
    return {row.image: (store.read(row).tobytes(), replace(row, **PLACE)) for row in store.rows()}


def union(stores: Sequence[Store], passes: Callable[[ImageRow], bool] = lambda row: True) -> Contents:
    expected: Contents = {}
    for store in stores:
        for name, (pixels, row) in contents(store).items():
            if passes(row) and name not in expected:
                expected[name] = (pixels, row)
    return expected


def statements_about(stores: Sequence[Store], images: Contents) -> set[Annotation]:
    """What the stores say of images, and of their series and studies."""
    named = {name for _, row in images.values() for name in (row.image, row.series, row.study)}
    return {entry for store in stores for entry in read_annotations(store) if entry.target in named}


def listing(path: Path) -> dict[str, str]:
    """Every file of a store but what is derived -> hash of its bytes."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and "merged" not in file.parts]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def assert_holds(out: Path, stores: Sequence[Store], passes: Callable[[ImageRow], bool] = lambda row: True) -> None:
    made, expected = Store.open(out), union(stores, passes)
    assert contents(made) == expected
    assert len(made.rows()) == len(expected)
    entries = read_annotations(made)
    assert set(entries) == statements_about(stores, expected)
    assert len(set(entries)) == len(entries)
    assert check_store(made) == (len(expected), [])


@pytest.fixture
def overlapping(tmp_path: Path) -> list[Store]:
    """Three stores: one shard is in two of them, and images 4 to 7 are in three shards."""
    return [
        write_store(tmp_path / "one", range(8), [0, 1, 2]),
        write_store(tmp_path / "two", [*range(4), 6, 7, 8, 9, 10, 11, 12], [3]),
        write_store(tmp_path / "three", [20, 21, 5, 4], [2, 4]),
    ]


def paths(stores: Sequence[Store]) -> list[Path]:
    return [store.path for store in stores]


def test_a_merge_is_the_union(overlapping: list[Store], tmp_path: Path) -> None:
    before = [listing(store.path) for store in overlapping]
    summary = merge(paths(overlapping), out=tmp_path / "out")
    assert_holds(tmp_path / "out", overlapping)
    # Of "two", the first shard is known; the second has two known images; of "three", both shards have known ones.
    assert summary == MergeSummary(stores=3, images=45, shards=8, linked=6, copied=0, packed=3)
    assert [listing(store.path) for store in overlapping] == before


def test_the_same_command_again_adds_nothing_and_another_store_is_appended(
    overlapping: list[Store], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    merge(paths(overlapping[:1]), out=out)
    first = Store.open(out).snapshot()
    assert first == overlapping[0].snapshot()  # all of its shards, and no other
    merge(paths(overlapping[1:]), out=out)
    assert_holds(out, overlapping)
    assert Store.open(out).snapshot() != first
    before = listing(out)
    for stores in (overlapping, overlapping[:1], overlapping[::-1]):
        summary = merge(paths(stores), out=out)
        assert (summary.linked, summary.copied, summary.packed) == (0, 0, 0)
        assert listing(out) == before


def test_parts_that_were_split_off_merge_to_the_original(overlapping: list[Store], tmp_path: Path) -> None:
    original = overlapping[0]
    parts = [tmp_path / split for split in ("train", "validation", "test")]
    for part in parts:
        merge([original.path], out=part, where=f"split = '{part.name}'")
        assert_holds(part, [original], lambda row, split=part.name: row.split == split)  # type: ignore[misc]
    merge(parts, out=tmp_path / "again")
    assert_holds(tmp_path / "again", [original])
    made = Store.open(tmp_path / "again")
    volumes = volumes_of(made.rows())
    assert [volume.stack for volume in volumes] == ["volume-0", "volume-1", "volume-2"]
    for volume, known in zip(volumes, volumes_of(original.rows()), strict=True):
        np.testing.assert_array_equal(read_volume(made, volume), read_volume(original, known))


def test_a_volume_of_which_a_part_is_taken_becomes_single_images(overlapping: list[Store], tmp_path: Path) -> None:
    where = "modality = 'ct' and (slice_index <> 2 or patient <> 'patient-volume-1')"
    merge([overlapping[0].path], out=tmp_path / "out", where=where)
    made = Store.open(tmp_path / "out")
    assert [volume.stack for volume in volumes_of(made.rows())] == ["volume-0", "volume-2"]
    kept = {row.image: row for row in overlapping[0].rows() if row.modality == "ct"}
    for row in made.rows():
        pixels = made.read(row)
        np.testing.assert_array_equal(pixels, overlapping[0].read(kept[row.image]))
        if "volume-1" in row.patient:
            assert (row.stack, row.affine, row.slice_spacing) == ("", None, None)
    # The rest of the volume comes later: the store has no volume whose slices lie apart.
    merge([overlapping[0].path], out=tmp_path / "out")
    made = Store.open(tmp_path / "out")
    assert {row.image for row in made.rows()} == {row.image for row in overlapping[0].rows()}
    assert [volume.stack for volume in volumes_of(made.rows())] == ["volume-0", "volume-2"]


KILLED = """
import os, signal, sys
from pathlib import Path
from scoutview.commands.merge import merge
synced, moment = 0, int(sys.argv[1])
fsync = os.fsync
def stop(descriptor):
    global synced
    synced += 1
    if synced == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = stop
merge([Path(word) for word in sys.argv[3:]], out=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("moments", [(1, 5, 12), (20,), (32,)])
def test_killed_at_any_moment_it_is_continued(
    overlapping: list[Store], tmp_path: Path, moments: tuple[int, ...]
) -> None:
    """The moments are those of an fsync: between every two changes of the folder there is one."""
    out, expected = tmp_path / "out", union(overlapping)
    for moment in moments:
        words = [str(moment), str(out), *map(str, paths(overlapping))]
        process = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, timeout=120)
        assert process.returncode == -signal.SIGKILL, process.stderr
        if (out / "store.json").exists():
            assert contents(Store.open(out)).items() <= expected.items()
            assert check_store(Store.open(out))[1] == []
    merge(paths(overlapping), out=out)
    assert_holds(out, overlapping)
    assert not list(out.rglob(".*.tmp"))
    assert not list(out.rglob(".writing*"))


def test_what_is_done_to_a_merged_store_does_not_reach_the_sources(overlapping: list[Store], tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(paths(overlapping), out=out)
    (shard, *_) = sorted(overlapping[0].path.glob("shards/ct/*.tar"))
    assert (out / "shards" / "ct" / shard.name).stat().st_ino == shard.stat().st_ino
    before = [listing(store.path) for store in overlapping]
    with StoreWriter(out, "salt") as writer:
        for number in range(500, 506):
            add_image(writer, number)
    add_annotations(Store.open(out), [Annotation(f"{1:032x}", "label", "odd", "0")])
    assert fsck(out) == 0
    assert [listing(store.path) for store in overlapping] == before


def test_without_links_shards_are_copied(
    overlapping: list[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    summary = merge(paths(overlapping), out=tmp_path / "out")
    assert (summary.linked, summary.copied) == (0, 6)
    assert_holds(tmp_path / "out", overlapping)

    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(RunError, match=r"disk of .*other is full: free space and run the same command again"):
        merge(paths(overlapping), out=tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.tmp"))


@pytest.mark.parametrize("where", [None, "split = 'train'"])
def test_a_damaged_image_is_not_passed_on(overlapping: list[Store], tmp_path: Path, where: str | None) -> None:
    row = next(row for row in overlapping[0].rows() if row.split == "train" and row.modality == "xray")
    shard = overlapping[0].path / "shards" / row.modality / row.shard
    whole = shard.read_bytes()
    place = row.offset_in_shard + row.nbytes // 2
    shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(RunError, match=f"image {row.image} .* damaged .*run scoutview fsck"):
        merge(paths(overlapping), out=tmp_path / "out", where=where)
    assert row.image not in {known.image for known in Store.open(tmp_path / "out").rows()}
    shard.write_bytes(whole)
    merge(paths(overlapping), out=tmp_path / "out", where=where)
    assert_holds(tmp_path / "out", overlapping, lambda row: where is None or row.split == "train")


def test_a_store_in_a_bucket_is_taken_from(
    overlapping: list[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket_of.cache_clear()
    monkeypatch.setenv("SCOUTVIEW_CACHE", str(tmp_path / "cache"))
    with bucket_server(Faults()) as endpoint:
        for name in listing(overlapping[0].path):
            client_of(endpoint).upload_file(str(overlapping[0].path / name), BUCKET, f"one/{name}")
        merge([Path(f"s3://{BUCKET}/one"), *paths(overlapping[1:])], out=tmp_path / "out")
    bucket_of.cache_clear()
    assert_holds(tmp_path / "out", overlapping)


def test_of_statements_that_differ_the_earlier_counts(
    overlapping: list[Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{6:032x}"
    add_annotations(overlapping[1], [Annotation(target, "label", "odd", "1"), Annotation(target, "label", "new", "x")])
    merge(paths(overlapping[:2]), out=tmp_path / "out")
    assert "note: 1 statements about images differ" in capsys.readouterr().out

    def said() -> dict[str, str]:
        entries = read_annotations(Store.open(tmp_path / "out"))
        return {entry.name: entry.value for entry in entries if entry.target == target and entry.kind == "label"}

    assert said() == {"odd": "0", "new": "x"}
    add_annotations(Store.open(tmp_path / "out"), [Annotation(target, "label", "odd", "?")])
    merge(paths(overlapping[:2]), out=tmp_path / "out")
    assert said() == {"odd": "?", "new": "x"}


def test_refused_files_come_along_but_for_those_that_another_store_took(tmp_path: Path) -> None:
    one, two = write_store(tmp_path / "one", range(4)), write_store(tmp_path / "two", range(4, 8))
    for store, entries in ((one, [("a", "gap"), ("file-5", "gap")]), (two, [("a", "bits"), ("b", "gap")])):
        with StoreWriter(store.path, "salt") as writer:
            for key, reason in entries:
                writer.quarantine(f"{key}.dcm", reason, "", key, key.replace("file", "stamp"))
        assert len(store.quarantined()) == 2

    def listed(out: Path) -> list[tuple[str, str]]:
        return [(entry["file_key"], entry["reason"]) for entry in Store.open(out).quarantined()]

    merge(paths([one, two]), out=tmp_path / "out")
    assert listed(tmp_path / "out") == [("a", "gap"), ("b", "gap")]
    merge([one.path], out=tmp_path / "later")
    assert listed(tmp_path / "later") == [("a", "gap"), ("file-5", "gap")]
    merge([two.path], out=tmp_path / "later")
    assert listed(tmp_path / "later") == [("a", "gap"), ("b", "gap")]


def test_reference_energies_are_those_of_the_result(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", images=20)
    merge([store.path], out=tmp_path / "out", where="modality = 'mr' and image < 'mr-0012'")
    made = Store.open(tmp_path / "out")
    chosen = [row for row in store.rows() if row.modality == "mr" and row.image < "mr-0012" and row.split == "train"]
    (name,) = made.reference_energies
    reference = made.reference_energies[name]
    assert (name, reference["images"]) == ("mr", len(chosen))
    grid = np.array(reference["short_sides"])
    energies = [band_energies(store.read_spectrum(row), grid / min(row.rows, row.columns)) for row in chosen]
    np.testing.assert_allclose(reference["mean"], np.mean(energies, axis=0))
    np.testing.assert_allclose(reference["deviation"], np.std(energies, axis=0))


def test_stores_that_cannot_be_merged_are_refused(tmp_path: Path) -> None:
    one = write_store(tmp_path / "one", range(4))
    with StoreWriter(tmp_path / "salted", "other") as writer:
        add_image(writer, 9)
    with pytest.raises(UsageError, match=r"other pseudonym secrets \(other, salt\).*SCOUTVIEW_KEY"):
        merge([one.path, tmp_path / "salted"], out=tmp_path / "out")
    with pytest.raises(UsageError, match="is one of the stores to take from"):
        merge([one.path], out=one.path)
    with pytest.raises(UsageError, match=r"no image of .* passes where .* scoutview inspect"):
        merge([one.path], out=tmp_path / "out", where="modality = 'mr'")
    with pytest.raises(UsageError, match="where 'nonsense'"):
        merge([one.path], out=tmp_path / "out", where="nonsense")
    assert not (tmp_path / "out").exists()
    with StoreWriter(tmp_path / "patient", "salt") as writer:
        add_image(writer, 2, stack="someone")
    with pytest.raises(UsageError, match=r"is xray of patient patient-someone in .*patient and xray of patient"):
        merge([one.path, tmp_path / "patient"], out=tmp_path / "out")
    with pytest.raises(UsageError, match="another pseudonym secret"):
        merge([tmp_path / "salted"], out=one.path)
