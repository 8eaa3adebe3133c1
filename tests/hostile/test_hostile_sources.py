"""Images, archives and label files from strangers: refused with a reason, within bounds, nothing written outside."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest.source_files import picture, refusal, write_dicom, write_png
from measuring import peak_of
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from scoutview.commands.label import label
from scoutview.errors import UsageError
from scoutview.images import Modality
from scoutview.ingest import RefusedError, read_file, run_ingest
from scoutview.store import Store, read_annotations


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOUTVIEW_KEY", "a secret that only the tests know")


def dicom_with(path: Path, tail: bytes) -> Path:
    """A whole file, and bytes of further elements behind its pixels."""
    write_dicom(path, picture())
    path.write_bytes(path.read_bytes() + tail)
    return path


def element(group: int, number: int, kind: bytes, length: int, value: bytes = b"") -> bytes:
    if kind in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHI", group, number, kind, 0, length) + value
    return struct.pack("<HH2sH", group, number, kind, length) + value


def refused_or_read(path: Path, modality: Modality | None = None) -> str:
    """The reason, or "" for a file that is taken; anything else is an error."""
    try:
        read_file(path, modality)
    except RefusedError as error:
        return str(error.reason)
    return ""


UNDEFINED = 0xFFFFFFFF
NESTED = element(0x0040, 0x0555, b"SQ", UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)


@pytest.mark.parametrize(
    "tail",
    [
        element(0x7FE1, 0x0010, b"OB", 0xFFFFFFFE), element(0x7FE1, 0x0010, b"UT", 0xFFFFFFF0, b"text"),
        element(0x7FE1, 0x0010, b"OB", UNDEFINED), element(0x7FE1, 0x0010, b"UN", UNDEFINED),
        element(0x7FE1, 0x0010, b"SQ", UNDEFINED) * 3000, NESTED * 5000, NESTED * 100_000,
        element(0x7FE1, 0x0010, b"SQ", 0xFFFFFFF0, b"\xfe\xff\x00\xe0"), b"\xff" * 64, bytes(64),
    ],
    ids=[
        "4 GiB", "4 GiB of text", "no length", "unknown, no length", "open", "5000", "100000", "4 GiB all", "ff", "0",
    ],
)  # fmt: skip
def test_lengths_and_depths_that_lie(tail: bytes, tmp_path: Path) -> None:
    assert refused_or_read(dicom_with(tmp_path / "a.dcm", tail)) in ("", "bad_header", "truncated", "decode_error")


def test_a_deep_sequence_within_the_header(tmp_path: Path) -> None:
    inner = Dataset()
    for _ in range(100):
        outer = Dataset()
        outer.AcquisitionContextSequence = Sequence([inner])
        inner = outer
    write_dicom(tmp_path / "a.dcm", picture(), AcquisitionContextSequence=inner.AcquisitionContextSequence)
    assert refused_or_read(tmp_path / "a.dcm") in ("", "bad_header")
    # The same without pixels behind it, so deep that a reader that calls itself would end.
    data = bytes(128) + b"DICM" + element(2, 0x10, b"UI", 20, b"1.2.840.10008.1.2.1\0") + NESTED * 20_000
    (tmp_path / "b.dcm").write_bytes(data)
    assert refusal(tmp_path / "b.dcm") in ("bad_header", "truncated", "no_pixels", "not_an_image_class", "not_an_image")


@pytest.mark.parametrize(
    "sizes",
    [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2**31 - 1}, {"Rows": 0}, {"NumberOfFrames": -1}],
    ids=str,
)  # fmt: skip
def test_dicom_sizes_that_lie(sizes: dict[str, Any], tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", picture(), "US", **sizes)
    assert refusal(tmp_path / "a.dcm") in ("too_large", "truncated", "bad_header", "too_small", "no_pixels")


def nifti_header(*sides: int, code: int = 512) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(sides), *sides, *[1] * (7 - len(sides)))
    struct.pack_into("<hh", header, 70, code, 16)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    struct.pack_into("<h", header, 252, 1)  # qform_code
    header[344:348] = b"n+1\0"
    return bytes(header)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(side: int) -> bytes:
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(bytes(2**20))) + chunk(b"IEND", b"")


def huge_tiff(side: int) -> bytes:
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, 0xFFFFFFFF)]  # fmt: skip
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)


SMALL_AND_HUGE: dict[str, bytes] = {
    "a.nii": nifti_header(32767, 32767, 32767, 32767, 32767, 32767, 32767),
    "b.nii": nifti_header(32767, 32767, 32767),
    "c.nii": nifti_header(-5, 0, 32767),
    "a.nii.gz": gzip.compress(nifti_header(32767, 32767, 32767)),
    "b.nii.gz": gzip.compress(nifti_header(512, 512, 20) + bytes(2**28)),
    "a.png": huge_png(2**31 - 1),
    "b.png": huge_png(65535),
    "a.tif": huge_tiff(2**31),
    "b.tif": huge_tiff(60_000),
    "a.nrrd": b"NRRD0004\ntype: short\ndimension: 3\nsizes: 99999999 99999999 99999999\nencoding: raw\n"
    b"endian: little\n\n",
    "a.mha": b"ObjectType = Image\nNDims = 3\nDimSize = 99999999 99999999 99999999\nElementType = MET_SHORT\n"
    b"ElementDataFile = LOCAL\n",
}


def test_small_files_of_huge_images_are_refused_within_memory(tmp_path: Path) -> None:
    for name, data in SMALL_AND_HUGE.items():
        (tmp_path / name).write_bytes(data)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**20)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", stream.getvalue() + bytes(2**26))
    code = """
    for path in sorted(Path(sys.argv[1]).iterdir()):
        try:
            read_file(path, "mr")
        except RefusedError as error:
            assert error.detail, path
        else:
            raise AssertionError(path)
    """
    setup = "from pathlib import Path\nfrom scoutview.ingest import RefusedError, read_file"
    assert peak_of(setup, code, tmp_path) < 500e6


def test_an_archive_that_inflates_without_end_takes_no_memory_and_no_disk(tmp_path: Path) -> None:
    """2 GiB of zeros in 2 MB, beside a member of 5 GiB that is refused by its size, and archives in archives."""
    source = tmp_path / "source"
    source.mkdir()
    zeros = bytes(2**24)
    with zipfile.ZipFile(source / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("zeros.png", "w", force_zip64=True) as member:
            for _ in range(128):
                member.write(zeros)
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as nested:
            nested.writestr("zeros.png", zeros)
        archive.writestr("inner.zip", inner.getvalue())
        archive.writestr("../../outside.png", b"x")
        archive.writestr("C:\\\\windows\\\\x.png", b"x")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("inner.tar.gz"), io.BytesIO())
        device = tarfile.TarInfo("disk.png")
        device.type = tarfile.BLKTYPE
        tar.addfile(device)
        pipe = tarfile.TarInfo("pipe.png")
        pipe.type = tarfile.FIFOTYPE
        tar.addfile(pipe)
    (source / "odd.tar.gz").write_bytes(gzip.compress(packed.getvalue()))
    assert (source / "bomb.zip").stat().st_size < 3 * 2**20
    code = """
    run_ingest([Path(sys.argv[1]) / "source"], Path(sys.argv[1]) / "store", workers=1)
    """
    setup = "from pathlib import Path\nfrom scoutview.ingest import run_ingest"
    assert peak_of(setup, code, tmp_path, seconds=250) < 500e6
    found = Store.open(tmp_path / "store")
    assert found.rows() == []
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in found.quarantined()}
    assert {"zeros.png", "inner.zip", "outside.png", "disk.png", "pipe.png"} <= set(reasons), reasons
    assert reasons["outside.png"] == "unsafe_path"
    assert reasons["disk.png"] == reasons["pipe.png"] == "not_a_file"
    assert not list(tmp_path.parent.rglob("outside.png"))
    assert sum(path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file()) < 2**20


def test_links_that_loop_or_lead_out_are_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dicom(source / "a.dcm", picture())
    write_dicom(tmp_path / "outside" / "b.dcm", picture(seed=3))
    (source / "loop").symlink_to(source)
    (source / "up").symlink_to(tmp_path)
    (source / "self.dcm").symlink_to(source / "self.dcm")
    (source / "gone.dcm").symlink_to(tmp_path / "nothing")
    os.mkfifo(source / "pipe.dcm")
    summary = run_ingest([source], tmp_path / "store", workers=1)
    assert summary.images == 1
    assert summary.taken == 1


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for number in range(2):
        write_png(tmp_path / "source" / f"p{number}.png", picture(64, 60, 255, seed=number).astype(np.uint8))
    run_ingest([tmp_path / "source"], tmp_path / "store", modality="xray", workers=1)
    assert len(Store.open(tmp_path / "store").rows()) == 2
    return tmp_path / "store"


NAMES = ("../../p0.png", "/etc/passwd", "p0.png\0", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "\x1b[31m")


def test_label_and_box_files_name_no_files(store: Path, tmp_path: Path) -> None:
    """Names in them are compared with those of the images, and never opened."""
    table = tmp_path / "labels.csv"
    rows = [f'"{name}","<script>","=1+1"' for name in (*NAMES, "p0.png")]
    table.write_text("file,<script>alert(1)</script>,=cmd\n" + "\n".join(row.replace("\0", "") for row in rows) + "\n")
    label(store, table, columns=["<script>alert(1)</script>", "=cmd"])
    said = read_annotations(Store.open(store))
    assert {entry.name for entry in said} <= {"<script>alert(1)</script>", "=cmd"}
    assert {entry.value for entry in said} <= {"<script>", "=1+1"}
    boxes = {
        "images": [
            {"id": n, "file_name": name, "width": 60, "height": 64} for n, name in enumerate((*NAMES, "p1.png"))
        ],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 9, 9]} for n in range(7)],
        "categories": [{"id": 1, "name": "[red]<script>"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    label(store, tmp_path / "boxes.json")
    found = [entry for entry in read_annotations(Store.open(store)) if entry.kind == "box"]
    assert {entry.name for entry in found} == {"[red]<script>"}
    assert {entry.target for entry in found} <= {row.image for row in Store.open(store).rows()}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "5", "[]", "{}", '{"images": 5}', '{"images": [5], "annotations": [], "categories": []}',
        '{"images": [{"id": 1, "file_name": 7}], "annotations": [{"image_id": 1, "category_id": 1, "bbox": "x"}], '
        '"categories": [{"id": 1, "name": "a"}]}',
        '{"images": [{"id": 1, "file_name": "p0.png"}], "annotations": [{"image_id": 1, "category_id": 1, '
        '"bbox": [1e999, NaN, -1, 1e300]}], "categories": [{"id": 1, "name": "a"}]}',
        '{"images": [], "annotations": [{"image_id": {}, "category_id": [], "bbox": null}], "categories": [{}]}',
    ],
    ids=range(9),
)  # fmt: skip
def test_box_files_of_another_form(text: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        label(store, tmp_path / "boxes.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "\0\0", "file\n", "file,a\n" + "x" * 10**6, 'file,a\n"p0.png', "\xff\xfe", "file,file\np0.png,1\n"],
    ids=range(7),
)
def test_label_files_of_another_form(text: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        label(store, tmp_path / "labels.csv", columns=["a"])
    assert "\n" not in str(caught.value)
