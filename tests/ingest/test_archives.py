"""Archives as sources: the same images as unpacked by other tools, and hostile members refused, nothing written."""

from __future__ import annotations

import io
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from source_files import picture, write_dicom, write_png

from scoutview.ingest import archives, run_ingest
from scoutview.ingest.archives import members_of_zip, unpacked
from scoutview.ingest.content import content_of
from scoutview.ingest.discovery import discover
from scoutview.ingest.files import SourceFile
from scoutview.ingest.refusals import RefusedError
from scoutview.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of seven slices, four pictures in two folders, a text."""
    folder = tmp_path_factory.mktemp("source") / "files"
    for number in range(7):
        pixels = picture(seed=number)
        write_dicom(
            folder / "ct" / f"{7 - number}.dcm", pixels, "CT", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4",
            SOPInstanceUID=f"1.2.3.4.{number}", PixelSpacing=[0.5, 0.5], SliceThickness=2,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], ImagePositionPatient=[0, 0, 2 * number],
            FrameOfReferenceUID="1.2.9",
        )  # fmt: skip
    for number in range(4):
        write_png(folder / f"case{number % 2}" / f"{number}.png", picture(seed=50 + number))
    (folder / "notes.txt").write_text("none of the formats")
    return folder


def content(store: Path) -> list[tuple[object, ...]]:
    rows = Store.open(store).rows()
    return sorted((row.image, row.pixel_sha256, row.patient, row.path_key, row.stack, row.slice_index) for row in rows)


def taken(source: Path | str, store: Path) -> tuple[dict[str, object], list[tuple[object, ...]]]:
    summary = run_ingest([source], store, modality="xray", workers=1)
    return summary.counts(), content(store)


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], list[object]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOUTVIEW_KEY", "a secret that only the tests know")
        counts, images = taken(folder, tmp_path_factory.mktemp("expected") / "store")
    assert counts["reasons"] == {"not_an_image": 1}
    assert (counts["taken"], counts["images"], counts["volumes"]) == (11, 11, 1)
    return counts, images


def packed(folder: Path, target: Path, kind: str) -> Path:
    shutil.make_archive(str(target / "packed"), kind, folder)
    return next(target.glob("packed.*"))


@pytest.mark.parametrize("kind", ["tar", "gztar", "bztar", "xztar", "zip"])
def test_an_archive_is_what_its_folder_is(
    folder: Path, expected: tuple[object, object], kind: str, tmp_path: Path
) -> None:
    archive = packed(folder, tmp_path, kind)
    store = tmp_path / "store"
    assert taken(archive, store) == expected
    assert not (store / ".scratch").exists()
    # The second run reads nothing; one of the folder adds nothing.
    read: list[int] = []
    again = run_ingest([archive], store, modality="xray", workers=1, progress=lambda done, total: read.append(done))
    assert (again.counts(), read) == (expected[0], [])
    assert taken(folder, store) == expected


@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_members_of_an_archive_in_a_folder_lie_below_its_name(folder: Path, kind: str, tmp_path: Path) -> None:
    """Two archives beside each other hold files of one name: they must not be taken for one."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("first", "second"):
        shutil.make_archive(str(source / name), kind, folder / "case0")
    archives_there = sorted(path.name for path in source.iterdir())
    with unpacked(discover([source], excluded=tmp_path / "store"), tmp_path / "scratch") as files:
        found = sorted(file.relative.as_posix() for file in files)
    assert found == [f"{archive}/{name}" for archive in archives_there for name in ("0.png", "2.png")]


def test_an_archive_in_a_folder_is_below_it(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "part").mkdir(parents=True)
    packed(folder / "case0", source / "part", "zip")
    files = discover([source], excluded=tmp_path / "store")
    assert [file.relative.as_posix() for file in files] == ["part/packed.zip/0.png", "part/packed.zip/2.png"]
    labels = tmp_path / "labels.csv"
    labels.write_text("file,finding\n0.png,1\npart/packed.zip/2.png,0\n")
    summary = run_ingest([source], tmp_path / "store", labels=labels, modality="xray", workers=1)
    assert (summary.taken, summary.notes) == (2, ())


def test_stored_members_and_npz_within_archives(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    np.savez(source / "arrays.npz", images=np.stack([picture(seed=seed) for seed in range(3)]))
    shutil.copy(source / "arrays.npz", tmp_path / "arrays.zip")  # by its content no archive
    with zipfile.ZipFile(tmp_path / "stored.zip", "w", zipfile.ZIP_STORED) as zipped:
        zipped.write(source / "arrays.npz", "arrays.npz")
    images = [taken(path, tmp_path / f"store{number}")[1] for number, path in enumerate(
        (source, tmp_path / "arrays.zip", tmp_path / "stored.zip"))]  # fmt: skip
    hashes = [[row[1] for row in rows] for rows in images]
    assert sorted(hashes[0]) == sorted(hashes[1]) == sorted(hashes[2])
    assert len(hashes[0]) == 3


def hostile_tar(path: Path) -> dict[str, str]:
    """Member -> reason."""
    image = write_png(path.parent / "image.png", picture()).read_bytes()
    with tarfile.open(path, "w") as tar:
        for name in ("../../escaped.png", "/absolute.png", "fine/../../up.png"):
            member = tarfile.TarInfo(name)
            member.size = len(image)
            tar.addfile(member, io.BytesIO(image))
        for name, kind, target in (
            ("link.png", tarfile.SYMTYPE, "/etc/passwd"), ("hard.png", tarfile.LNKTYPE, "../image.png"),
            ("pipe", tarfile.FIFOTYPE, ""), ("device", tarfile.CHRTYPE, ""),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
        inner = tarfile.TarInfo("inner.zip")
        data = b"PK\x03\x04" + b"\0" * 600
        inner.size = len(data)
        tar.addfile(inner, io.BytesIO(data))
    return {"unsafe_path": 3, "symlink": 2, "not_a_file": 2, "truncated": 1}  # type: ignore[dict-item]


@pytest.mark.parametrize("compressed", [False, True])
def test_hostile_members_of_a_tar_file(compressed: bool, tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    archive = inside / "hostile.tar"
    expected = hostile_tar(archive)
    (inside / "image.png").unlink()
    if compressed:
        data = archive.read_bytes()
        archive.unlink()
        archive = inside / "hostile.tar.gz"
        archive.write_bytes(zlib.compress(data, wbits=31))
    before = sorted(tmp_path.rglob("*"))
    store = tmp_path / "store"
    summary = run_ingest([archive, write_png(tmp_path / "good.png", picture())], store, modality="xray", workers=1)
    assert summary.reasons == expected
    outside = {path for path in tmp_path.rglob("*") if store not in path.parents}
    assert outside - set(before) == {store, tmp_path / "good.png"}


def zip_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return path


def test_zip_members_that_lie(tmp_path: Path) -> None:
    image = write_png(tmp_path / "image.png", picture()).read_bytes()
    archive = zip_of(tmp_path / "plain.zip", image=image, other=image)
    data = bytearray(archive.read_bytes())
    directory = data.index(b"PK\x01\x02")
    size = struct.unpack_from("<I", data, directory + 24)[0]
    assert size == len(image)

    def changed(name: str, offset: int, value: bytes) -> list[SourceFile]:
        path = tmp_path / name
        copy = bytearray(data)
        copy[offset : offset + len(value)] = value
        path.write_bytes(copy)
        return members_of_zip(SourceFile(path, Path(name)), Path())

    def refusal(file: SourceFile) -> str:
        if file.refusal:
            return file.refusal[0]
        try:
            with content_of(file) as path:
                assert path.read_bytes() == image
        except RefusedError as error:
            return error.reason
        return ""

    assert [refusal(file) for file in changed("same.zip", 0, bytes(data[:4]))] == ["", ""]
    # It announces fewer, more and far too many bytes than it unpacks to; another checksum; a password; a method.
    for name, at, value, reason in (
        ("fewer.zip", 24, struct.pack("<I", size - 9), "decode_error"),
        ("more.zip", 24, struct.pack("<I", size + 9), "truncated"),
        ("bomb.zip", 24, struct.pack("<I", 0xFFFFFFF0), "truncated"),
        ("crc.zip", 16, b"\0\0\0\0", "decode_error"),
        ("secret.zip", 8, b"\1\0", "encrypted"),
        ("method.zip", 10, b"\x0c\0", "archive"),
    ):
        first, second = changed(name, directory + at, value)
        assert (refusal(first), refusal(second)) == (reason, ""), name
    middle = data.index(b"other") - 30
    both = changed("shared.zip", data.index(b"PK\x01\x02", directory + 4) + 42, struct.pack("<I", 0))
    assert middle > 0
    assert [file.refusal and file.refusal[0] for file in both] == ["archive"]
    (tmp_path / "cut.zip").write_bytes(data[:-30])
    assert [file.refusal and file.refusal[0] for file in discover([tmp_path / "cut.zip"], tmp_path / "s")] == [
        "truncated"
    ]


def test_a_member_beyond_the_bound_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.tar"
    with path.open("wb") as stream:
        member = tarfile.TarInfo("huge.png")
        member.size = 5 * 2**30
        stream.write(member.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(6 * 2**30)  # a hole in the file, no bytes on the disk
    refusals = [file.refusal and file.refusal[0] for file in discover([path], tmp_path / "store")]
    assert refusals == ["too_large"]


def test_a_compressed_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 40 * 2**20
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(zlib.compress(data.getvalue(), wbits=31))
    monkeypatch.setattr(archives, "EXPANSION", 0)
    monkeypatch.setattr(archives, "SPARE_BYTES", 100 * 2**20)
    with unpacked(discover([archive], tmp_path / "store"), tmp_path / "scratch") as files:
        assert [file.refusal and file.refusal[0] for file in files] == [None, None, "truncated"]
        assert sum(path.stat().st_size for path in (tmp_path / "scratch").rglob("*") if path.is_file()) == 80 * 2**20
    assert not (tmp_path / "scratch").exists()


def test_a_tar_file_that_ends_early_gives_what_is_whole(folder: Path, tmp_path: Path) -> None:
    archive = packed(folder, tmp_path, "tar")
    whole = {file.name: file for file in discover([archive], tmp_path / "store")}
    os.truncate(archive, archive.stat().st_size // 2)
    cut = discover([archive], tmp_path / "store")
    refused = [file for file in cut if file.refusal]
    assert refused
    assert {file.refusal[0] for file in refused if file.refusal} == {"truncated"}
    for file in cut:
        if not file.refusal:
            with content_of(file) as path, content_of(whole[file.name]) as other:
                assert path.read_bytes() == other.read_bytes()
    summary = run_ingest([archive], tmp_path / "store", modality="xray", workers=1)
    assert summary.taken + summary.quarantined == summary.files == len(cut)
