"""Sources that are no folders: what a DICOMDIR lists, and objects of a bucket on a real S3 server."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from buckets import BUCKET, bucket_server, client_of
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from source_files import picture, write_dicom, write_png

from scoutview import objects
from scoutview.errors import UsageError
from scoutview.ingest import run_ingest
from scoutview.ingest.content import content_of
from scoutview.ingest.dicom_header import is_whole
from scoutview.ingest.discovery import discover
from scoutview.ingest.pool import here
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.records import ReadJobs
from scoutview.ingest.rules import STRICT
from scoutview.ingest.series import Job
from scoutview.store import Store


def write_dicomdir(path: Path, *listed: str) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    records = []
    for name in ("", *listed):  # a record of a patient has no file
        record = Dataset()
        if name:
            record.ReferencedFileID = name.split("\\")
        records.append(record)
    dataset.DirectoryRecordSequence = records
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_dicomdir_is_the_files_that_it_lists(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    for name in ("a1", "A2", "unlisted"):  # one in another case than the records, as a copied disc has
        write_dicom(medium / "dicom" / name, picture(seed=len(name)), "DX", SOPInstanceUID=f"1.2.{len(name)}{name[1]}")
    (tmp_path / "outside.dcm").write_bytes((medium / "dicom" / "a1").read_bytes())
    listing = write_dicomdir(
        medium / "DICOMDIR", "DICOM\\A1", "DICOM\\A2", "DICOM\\GONE", "..\\outside.dcm", "/etc/passwd"
    )
    summary = run_ingest([listing], tmp_path / "store", workers=1)
    assert summary.counts() == {
        "files": 5, "taken": 2, "quarantined": 3, "images": 2, "volumes": 0,
        "reasons": {"missing_file": 1, "unsafe_path": 2},
    }  # fmt: skip
    again = run_ingest([listing], tmp_path / "store", workers=1)
    assert again.counts() == summary.counts()
    whole = run_ingest([medium], tmp_path / "whole", workers=1)  # of a folder every file, listed or not
    assert (whole.taken, whole.reasons) == (3, {"not_an_image_class": 1})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with bucket_server() as endpoint:
        yield endpoint


def upload(endpoint: str, folder: Path, prefix: str) -> None:
    client = client_of(endpoint)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")


def test_a_bucket_is_what_its_folder_is(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for number in range(5):
        write_dicom(
            folder / "mr" / f"{number}.dcm", picture(600, 500, seed=number), "MR", StudyInstanceUID="1.2",
            SeriesInstanceUID="1.2.3", SOPInstanceUID=f"1.2.3.{number}", PixelSpacing=[1, 1], SliceThickness=1,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], ImagePositionPatient=[0, 0, number], FrameOfReferenceUID="1.9",
        )  # fmt: skip
    write_png(folder / "film.png", picture(seed=9))
    (folder / "readme.txt").write_text("text")
    upload(server, folder, "hospital/2024")
    labels = tmp_path / "labels.csv"
    labels.write_text("file,finding\nfilm.png,1\nmr/3.dcm,0\n")
    expected = run_ingest([folder], tmp_path / "local", labels=labels, modality="xray", workers=1)
    store = tmp_path / "store"
    summary = run_ingest([f"s3://{BUCKET}/hospital/2024/"], store, labels=labels, modality="xray", workers=1)
    assert summary.counts() == expected.counts()
    assert (summary.images, summary.volumes, summary.notes) == (6, 1, ())
    rows, others = (Store.open(path).rows() for path in (store, tmp_path / "local"))
    assert [row.image for row in rows] == [row.image for row in others]
    assert [row.path_key for row in rows] == [row.path_key for row in others]
    # As a pathlib path, which joins the slashes of the scheme; nothing is read again.
    read: list[int] = []
    again = run_ingest([Path(f"s3://{BUCKET}/hospital/2024")], store, modality="xray", workers=1,
                       progress=lambda done, total: read.append(done))  # fmt: skip
    assert (again.counts(), read) == (summary.counts(), [])


def test_an_object_that_vanishes_or_changes(server: str, tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "one.png", picture(seed=1))
    write_png(tmp_path / "a" / "two.png", picture(seed=2))
    upload(server, tmp_path / "a", "vanishing")
    files = discover([f"s3://{BUCKET}/vanishing"], tmp_path / "store")
    client_of(server).delete_object(Bucket=BUCKET, Key="vanishing/two.png")
    read = ReadJobs("xray", Pseudonyms(b"secret"), STRICT, tmp_path / "scratch")
    found = [outcome for job in files for outcome in here([Job(job)], read, lambda job: pytest.fail("died"), 1)]
    assert [outcome.reason for outcome in found] == ["", "unreadable"]
    store = tmp_path / "store"
    assert run_ingest([f"s3://{BUCKET}/vanishing"], store, modality="xray", workers=1).taken == 1
    write_png(tmp_path / "b" / "one.png", picture(seed=3))
    upload(server, tmp_path / "b", "vanishing")
    changed = run_ingest([f"s3://{BUCKET}/vanishing"], store, modality="xray", workers=1)
    assert changed.reasons == {"changed_after_ingest": 1}


def test_a_bucket_that_is_not_there(server: str, tmp_path: Path) -> None:
    for url, message in (("s3://nowhere/x", "cannot be listed"), ("s3://", "names no bucket"),
                         (f"s3://{BUCKET}/empty", "holds no file")):  # fmt: skip
        with pytest.raises(UsageError, match=message) as caught:
            discover([url], tmp_path)
        assert "\n" not in str(caught.value)


def test_the_beginning_of_a_file_is_enough_for_its_header(server: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "h" / "big.dcm", picture(900, 900), "DX")
    size = path.stat().st_size
    header = size - 900 * 900 * 2 - 12
    for most, enough in ((header + 12, True), (header, False), (header // 2, False), (size * 2, True)):
        cut = tmp_path / "cut.dcm"
        cut.write_bytes(path.read_bytes()[:most])
        assert is_whole(cut, most) is enough, most
    upload(server, tmp_path / "h", "headers")
    (file,) = discover([f"s3://{BUCKET}/headers"], tmp_path / "store")
    with content_of(file, most=1000) as part:
        assert part.read_bytes() == path.read_bytes()[:1000]
    with content_of(file) as whole:
        assert whole.read_bytes() == path.read_bytes()
    assert objects.split_url("s3:/bucket/key") == objects.split_url("s3://bucket/key") == ("bucket", "key")


def test_pixels_of_an_archive_are_numpy_s(tmp_path: Path) -> None:
    """A member larger than the blocks in which it is copied arrives whole."""
    values = np.random.default_rng(0).integers(0, 4096, (1200, 1400), dtype=np.uint16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(write_png(tmp_path / "film.png", values), "film.png")
    run_ingest([tmp_path / "a.zip"], tmp_path / "store", modality="xray", workers=1)
    store = Store.open(tmp_path / "store")
    np.testing.assert_array_equal(store.read(store.rows()[0]), values)
