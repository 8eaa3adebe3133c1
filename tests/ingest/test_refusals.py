"""Every reason code is reached by a file that deserves it, and says what would accept the file."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.encaps import encapsulate
from source_files import SECONDARY_CAPTURE, picture, write_dicom, write_png

from scoutview.errors import RunError
from scoutview.ingest import RefusedError, fix_of, read_file, run_ingest
from scoutview.ingest.files import SourceFile, check_place
from scoutview.ingest.refusals import FIXES

PIXELS = picture(highest=3000)
GREY = picture(highest=255).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY // 2], axis=-1)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def nifti(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return bytes(nib.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes())


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def packed(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"x" * 99)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return stream.getvalue()


def animated() -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(GREY).save(stream, "PNG", save_all=True, append_images=[Pillow.fromarray(GREY[::-1])])
    return stream.getvalue()


def garbled() -> bytes:
    """A PNG whose compressed data are damaged in the middle."""
    data = bytearray(imagecodecs.png_encode(GREY))
    begin = data.index(b"IDAT") + 4
    data[begin : begin + 40] = b"x" * 40
    return bytes(data)


def float_pixels(path: Path) -> Path:
    write_dicom(path, PIXELS, "MR", PixelData=None)
    dataset = pydicom.dcmread(path)
    dataset.FloatPixelData = PIXELS.astype("<f4").tobytes()
    dataset.save_as(path)
    return path


def short_native(path: Path) -> Path:
    write_dicom(path, PIXELS, "MR")
    return write(path, path.read_bytes()[:-100])


def short_frame(path: Path) -> Path:
    frame = imagecodecs.jpeg2k_encode(PIXELS, level=0, codecformat="j2k")[:-900]
    return write_dicom(path, PIXELS, "MR", syntax="1.2.840.10008.1.2.4.90", frame=frame)


def broken_frame(path: Path) -> Path:
    return write_dicom(
        path, PIXELS, "MR", syntax="1.2.840.10008.1.2.4.80", frame=b"\xff\xd8" + b"\1" * 50 + b"\xff\xd9"
    )


def wrong_size(path: Path) -> Path:
    frame = imagecodecs.jpegls_encode(PIXELS[:30])
    return write_dicom(path, PIXELS, "MR", syntax="1.2.840.10008.1.2.4.80", frame=frame)


def unnumbered(path: Path) -> Path:
    write_dicom(path, PIXELS, "MR", RescaleSlope=1, RescaleIntercept=0)
    return write(path, path.read_bytes().replace(b"\x28\x00\x53\x10DS\x04\x001.0 ", b"\x28\x00\x53\x10DS\x04\x00x.0 "))


def no_preamble(path: Path) -> Path:
    write_dicom(path, PIXELS, "MR")
    return write(path, path.read_bytes()[132:])


def old_affine() -> bytes:
    image = nib.Nifti1Image(PIXELS[..., None].repeat(3, 2).astype(np.int16), None)
    return bytes(image.to_bytes())


LOCALIZER = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "RescaleSlope": 1, "RescaleIntercept": -1024}
VOLUME = np.stack([PIXELS] * 20, axis=-1).astype(np.int16)
CASES: list[tuple[str, str | None, Callable[[Path], Path]]] = [
    ("archive", None, lambda p: write(p, packed("a.dcm"))),
    ("archive", None, lambda p: write(p, tarred())),
    ("archive", None, lambda p: write(p, gzip.compress(b"text"))),
    ("bad_header", None, lambda p: write_dicom(p, PIXELS, "MR", Modality=None)),
    ("bad_header", None, lambda p: write_dicom(p, PIXELS, "MR", Rows=None)),
    ("bad_header", None, lambda p: write_dicom(p, PIXELS, "MR", RescaleSlope=0)),
    ("bad_header", None, lambda p: write_dicom(p, PIXELS, "DX", WindowCenter=5, WindowWidth=0)),
    ("bad_header", None, lambda p: write_dicom(p, PIXELS, "DX", WindowCenter=5, WindowWidth=9, VOILUTFunction="ODD")),
    ("bad_header", None, lambda p: write_dicom(p, PIXELS, "MR", BitsStored=17)),
    ("bad_header", None, lambda p: write_dicom(p, RGB, "US", SamplesPerPixel=1)),
    ("bad_header", None, unnumbered),
    ("bits", None, lambda p: write_dicom(p, PIXELS.astype(np.uint64), "MR")),
    ("bits", None, float_pixels),
    ("bits", "mr", lambda p: write(p, nifti(VOLUME.astype(np.complex64)))),
    ("burned_in", None, lambda p: write_dicom(p, GREY, "US", BurnedInAnnotation="YES")),
    ("color", None, lambda p: write_dicom(p, RGB, "DX")),
    ("color", "xray", lambda p: write_png(p, RGB)),
    ("constant", None, lambda p: write_dicom(p, np.full_like(PIXELS, 7), "MR")),
    ("constant", "mr", lambda p: write_png(p, np.full_like(GREY, 7))),
    ("constant", "xray", lambda p: write(p, npz(images=np.zeros((2, 20, 20), np.uint8)))),
    ("decode_error", None, broken_frame),
    ("decode_error", None, wrong_size),
    ("decode_error", "xray", lambda p: write(p, garbled())),
    ("empty_file", None, lambda p: write(p, b"")),
    ("four_dimensional", "mr", lambda p: write(p, nifti(VOLUME[:, :, :8].reshape(*VOLUME.shape[:2], 2, 2, 2)))),
    ("label_map", "mr", lambda p: write(p, nifti((VOLUME > 1500).astype(np.uint8)))),
    ("label_map", "us", lambda p: write_png(p, np.where(GREY > 99, 255, 0).astype(np.uint8))),
    ("localizer", None, lambda p: write_dicom(p, PIXELS, "CT", **LOCALIZER)),
    ("modality_conflict", None, lambda p: write_dicom(p, PIXELS, "CR", Modality="MR")),
    ("mosaic", None, lambda p: write_dicom(p, PIXELS, "MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
    ("multi_frame", None, lambda p: write_dicom(p, PIXELS, "MR", NumberOfFrames=2)),
    ("multi_frame", "xray", lambda p: write(p, animated())),
    ("no_decoder:1.2.840.10008.1.2.4.51", None, lambda p: write_dicom(
        p, PIXELS, "DX", syntax="1.2.840.10008.1.2.4.51", frame=b"\xff\xd8\xff\xd9", BitsStored=12)),
    ("no_decoder:1.2.840.10008.1.2.4.100", None, lambda p: write_dicom(
        p, PIXELS, "DX", syntax="1.2.840.10008.1.2.4.100", frame=b"\0\0\1\xb3")),
    ("no_orientation", "mr", lambda p: write(p, old_affine())),
    ("no_pixels", None, lambda p: write_dicom(p, None, "CT")),
    ("no_pixels", None, lambda p: write_dicom(p, PIXELS, "MR", PixelData=None)),
    ("no_preamble", None, no_preamble),
    ("not_an_image", None, lambda p: write(p, b"patient,label\n1,0\n")),
    ("not_an_image_class", None, lambda p: write_dicom(p, None, "SR")),
    ("not_an_image_class", None, lambda p: write_dicom(p, PIXELS, "NM", SOPClassUID="1.2.840.10008.5.1.4.1.1.20")),
    ("not_finite", "mr", lambda p: write(p, nifti(np.where(VOLUME > 2000, np.nan, VOLUME).astype(np.float32)))),
    ("not_hu", None, lambda p: write_dicom(p, PIXELS, "CT", RescaleIntercept=None)),
    ("not_hu", None, lambda p: write_dicom(p, PIXELS, "CT", RescaleType="US")),
    ("not_hu", None, lambda p: write_dicom(p, PIXELS, "CT", RescaleIntercept=0)),
    ("not_hu", "ct", lambda p: write(p, nifti(VOLUME))),
    ("not_hu", "ct", lambda p: write(p, nifti((VOLUME - 1000) * np.float32(1.1)))),
    ("palette_color", None, lambda p: write_dicom(p, GREY, "US", PhotometricInterpretation="PALETTE COLOR")),
    ("secondary_capture", None, lambda p: write_dicom(p, PIXELS, "CT", SOPClassUID=SECONDARY_CAPTURE)),
    ("secondary_capture", None, lambda p: write_dicom(p, PIXELS, "CT", ImageType=["DERIVED", "SECONDARY", "DOSE"])),
    ("saturated", None, lambda p: write_dicom(p, np.where(PIXELS > 2900, PIXELS, 7).astype(np.uint16), "DX")),
    ("too_large", None, lambda p: write_dicom(p, PIXELS, "MR", Rows=40000, Columns=40000)),
    ("too_small", None, lambda p: write_dicom(p, PIXELS[:15], "MR")),
    ("too_small", "mr", lambda p: write(p, nifti(VOLUME[:9]))),
    ("too_small", "xray", lambda p: write(p, npz(images=np.zeros((2, 20, 8), np.uint8)))),
    ("transparency", "xray", lambda p: write_png(p, np.stack([GREY, GREY, GREY, GREY], axis=-1))),
    ("truncated", None, short_native),
    ("truncated", None, lambda p: write_dicom(p, GREY, "US", NumberOfFrames=2)),
    ("truncated", None, short_frame),
    ("truncated", "xray", lambda p: write(p, imagecodecs.png_encode(GREY)[:-300])),
    ("truncated", "mr", lambda p: write(p, nifti(VOLUME)[:-500])),
    ("truncated", "mr", lambda p: write(p, gzip.compress(nifti(VOLUME))[:-500])),
    ("truncated", "mr", lambda p: write(p, b"NRRD0004\n")),
    ("truncated", "xray", lambda p: write(p, npz(images=np.zeros((2, 20, 20), np.uint8))[:-30])),
    ("unknown_layout", "xray", lambda p: write(p, npz(pictures=np.zeros((2, 20, 20), np.uint8)))),
    ("unknown_layout", "xray", lambda p: write(p, npz(images=np.zeros((2, 20, 20), np.float32)))),
    ("unknown_layout", "xray", lambda p: write(p, npz(images=np.zeros((2, 20, 20), np.uint8), patient_id=GREY[0]))),
    ("unknown_modality", None, lambda p: write_png(p, GREY)),
    ("unsupported_format", None, lambda p: write(p, b"GIF89a")),
    ("unsupported_format", "mr", lambda p: write(p, nifti(VOLUME).replace(b"n+1\0", b"ni1\0", 1))),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "modality", "make"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_bad_file_is_refused_with_its_reason(
    tmp_path: Path, reason: str, modality: str | None, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "MRN-4711.bin")
    with pytest.raises(RefusedError) as caught:
        read_file(path, modality)  # type: ignore[arg-type]
    assert caught.value.reason == reason
    assert caught.value.detail
    assert fix_of(reason)
    for identifier in ("4711", "Doe"):
        assert identifier not in caught.value.detail


def test_every_reason_is_reached() -> None:
    elsewhere = {"changed_after_ingest", "duplicate_instance", "instance_conflict", "killed_the_reader"}  # test_runs.py
    elsewhere |= {"gap", "duplicate_position", "shifted_slices"}  # test_series.py
    elsewhere |= {"text_unknown", "excluded"}  # test_pixel_rules.py, test_exclusion.py
    elsewhere |= {"encrypted", "missing_file", "unsafe_path"}  # test_archives.py, test_sources.py
    here = {"hidden_file", "not_a_file", "symlink", "unreadable"}
    assert {reason.partition(":")[0] for reason, _, _ in CASES} | elsewhere | here == set(FIXES)


def test_files_that_are_no_regular_files(tmp_path: Path) -> None:
    image = write_png(tmp_path / "a.png", GREY)
    (tmp_path / "link.png").symlink_to(image)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / ".hidden.png").write_bytes(image.read_bytes())
    for name, reason in (("link.png", "symlink"), ("pipe", "not_a_file"), (".hidden.png", "hidden_file"),
                         ("gone.png", "unreadable")):  # fmt: skip
        with pytest.raises(RefusedError) as caught:
            check_place(SourceFile(tmp_path / name, Path(name)))
        assert caught.value.reason == reason


def test_a_folder_of_bad_files_is_counted_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    expected: dict[str, int] = {}
    for number, (reason, modality, make) in enumerate(CASES):
        if modality in (None, "xray"):
            make(source / f"{number:03d}.bin")
            expected[reason] = expected.get(reason, 0) + 1
    write_dicom(source / "good.dcm", PIXELS, "MR")
    expected["label_map"] = expected.get("label_map", 0)
    summary = run_ingest([source], tmp_path / "store", modality="xray", workers=1)
    assert summary.files == summary.taken + summary.quarantined == len(list(source.iterdir()))
    assert sum(summary.reasons.values()) == summary.quarantined
    assert summary.taken >= 2  # the good one, and the PNG that lacked a modality
    for reason in ("archive", "bits", "decode_error", "empty_file", "truncated", "not_an_image", "bad_header"):
        assert summary.reasons[reason] == expected[reason]


def test_a_folder_without_images_fails_after_it_was_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scoutview.commands.ingest import ingest

    source = tmp_path / "source"
    source.mkdir()
    (source / "notes.txt").write_text("nothing here")
    with pytest.raises(RunError, match="nothing could be taken from 1 files"):
        ingest([source], out=tmp_path / "store", workers=1, json=True)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line == {
        "files": 1, "taken": 0, "quarantined": 1, "images": 0, "volumes": 0, "reasons": {"not_an_image": 1}
    }  # fmt: skip
    assert (tmp_path / "store" / "quarantine.parquet").exists()


def test_encapsulated_data_of_a_native_syntax_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", PIXELS, "MR", syntax="1.2.840.10008.1.2.4.80", frame=b"\xff\xd9")
    dataset = pydicom.dcmread(path)
    assert dataset.PixelData == encapsulate([b"\xff\xd9"])
    with pytest.raises(RefusedError):
        read_file(path)
