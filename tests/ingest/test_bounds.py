"""Files that announce or inflate to more than they may are refused before room is made for it; pages of a TIFF file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from PIL import TiffImagePlugin
from source_files import picture, refusal, write_dicom

from scoutview.ingest import RefusedError, arrays, codestreams, dicom_pixels, dicom_stream, pictures, read_file
from scoutview.ingest.codestreams import announced
from scoutview.ingest.files import SourceFile
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.rules import STRICT

PIXELS = picture(highest=3000)
GREY = picture(highest=255).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY // 2], axis=-1)
ENCODERS = {
    "1.2.840.10008.1.2.4.50": lambda p: imagecodecs.jpeg8_encode(p),
    "1.2.840.10008.1.2.4.57": lambda p: imagecodecs.ljpeg_encode(p),
    "1.2.840.10008.1.2.4.80": lambda p: imagecodecs.jpegls_encode(p),
    "1.2.840.10008.1.2.4.90": lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="j2k"),
    "1.2.840.10008.1.2.4.91": lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="jp2"),
    "1.2.840.10008.1.2.4.201": lambda p: imagecodecs.htj2k_encode(p),
}


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize("shape", [(40, 52), (300, 17)])
def test_a_codestream_announces_its_size(syntax: str, shape: tuple[int, int]) -> None:
    pixels = picture(*shape, highest=255).astype(np.uint8)
    assert announced(bytes(ENCODERS[syntax](pixels))) == (*shape, 1)
    if syntax.endswith((".50", ".90", ".91")):
        colour = np.stack([pixels] * 3, axis=-1)
        assert announced(bytes(ENCODERS[syntax](colour))) == (*shape, 3)


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_codestream_of_another_size_is_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    frame = bytearray(ENCODERS[syntax](GREY))
    places = [place for place in range(len(frame) - 8) if frame[place : place + 4] in (b"\0\x28\0\x34", b"\0\0\0\x34")]
    for place in places:
        if frame[place : place + 4] == b"\0\x28\0\x34":
            frame[place : place + 4] = struct.pack(">HH", 60000, 60000)
        elif frame[place + 4 : place + 8] == b"\0\0\0\x28":
            frame[place : place + 8] = struct.pack(">II", 60000, 60000)
    assert announced(bytes(frame)) == (60000, 60000, 1)

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(dicom_pixels, "_DECODERS", dict.fromkeys(dicom_pixels._DECODERS, decode))
    monkeypatch.setattr(dicom_pixels, "pixel_array", decode)
    path = write_dicom(tmp_path / "a.dcm", GREY, "MR", syntax=syntax, frame=bytes(frame) + b"\xff\xd9")
    assert refusal(path) == "decode_error"


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xc0\0\2", b"\xff\xd8\0", b"\xff\x4f\xff\x51", b"\0" * 99,
     b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\1jp2c" + b"\xff" * 8, b"\0\0\0\0jp2c"],
)  # fmt: skip
def test_no_size_is_a_refusal(frame: bytes) -> None:
    with pytest.raises(RefusedError):
        announced(frame)


def test_two_frame_headers_must_agree() -> None:
    frame = bytes(ENCODERS["1.2.840.10008.1.2.4.50"](GREY))
    place = frame.index(b"\xff\xc0")
    twice = frame[:place] + frame[place : place + 13].replace(b"\0\x28\0\x34", b"\0\x29\0\x34") + frame[place:]
    with pytest.raises(RefusedError, match="says two"):
        announced(twice)
    assert codestreams.announced(frame[:2] + b"\xff\xff" + frame[2:]) == (40, 52, 1)


def deflated(path: Path, **elements: object) -> Path:
    return write_dicom(path, PIXELS, "MR", syntax="1.2.840.10008.1.2.1.99", **elements)


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = deflated(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_file(path)[0].pixels, PIXELS)
    monkeypatch.setattr(dicom_stream, "MOST_INFLATED", 10_000)
    np.testing.assert_array_equal(read_file(path)[0].pixels, PIXELS)
    deflated(path, ImageComments="0" * 10_000)
    assert refusal(path) == "too_large"


def test_a_deflated_file_that_ends_early(tmp_path: Path) -> None:
    path = deflated(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-200])
    assert refusal(path) == "truncated"


def test_a_frame_is_read_without_what_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "a.dcm", PIXELS, "MR", PixelData=PIXELS.tobytes() + bytes(PIXELS.nbytes - 2))
    seen = []
    original = dicom_pixels.decode_dataset
    monkeypatch.setattr(dicom_pixels, "decode_dataset", lambda dataset, form: (
        seen.append(len(dataset.PixelData)), original(dataset, form))[1])  # fmt: skip
    np.testing.assert_array_equal(read_file(path)[0].pixels, PIXELS)
    assert seen == [PIXELS.nbytes]
    # A whole frame more is none of an image that announces one.
    write_dicom(path, GREY, "US", PixelData=GREY.tobytes() * 3)
    assert refusal(path) == "bad_header"


def test_a_compressed_frame_of_more_than_its_pixels(tmp_path: Path) -> None:
    frame = bytes(imagecodecs.jpegls_encode(PIXELS))
    path = write_dicom(tmp_path / "a.dcm", PIXELS, "MR", syntax="1.2.840.10008.1.2.4.80", frame=bytes(2**21) + frame)
    assert refusal(path) == "too_large"


def test_native_pixels_that_are_encapsulated(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", PIXELS, "MR", syntax="1.2.840.10008.1.2.4.80", frame=PIXELS.tobytes())
    dataset = pydicom.dcmread(path)
    data = path.read_bytes().replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0")
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"
    path.write_bytes(data)
    assert refusal(path) == "bad_header"


def run_lengths(*planes: bytes) -> bytes:
    segments = [b"".join(bytes([len(p[i : i + 99]) - 1]) + p[i : i + 99] for i in range(0, len(p), 99)) for p in planes]
    places = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    return struct.pack("<16I", len(planes), *places, *[0] * (15 - len(planes))) + b"".join(segments)


def test_run_lengths_of_every_plane_are_checked(tmp_path: Path) -> None:
    high, low = (PIXELS >> 8).astype(np.uint8).tobytes(), (PIXELS & 255).astype(np.uint8).tobytes()

    def written(*planes: bytes) -> Path:
        return write_dicom(tmp_path / "a.dcm", PIXELS, "MR", syntax="1.2.840.10008.1.2.5", frame=run_lengths(*planes))

    np.testing.assert_array_equal(read_file(written(high, low))[0].pixels, PIXELS)
    np.testing.assert_array_equal(read_file(written(high + bytes(9), low))[0].pixels, PIXELS)
    assert refusal(written(high[:-50], low + bytes(50))) == "truncated"
    assert refusal(written(high)) == "decode_error"
    assert refusal(written(high, low + bytes(5000))) == "decode_error"


def png_with(kind: bytes, data: bytes) -> bytes:
    whole = bytes(imagecodecs.png_encode(GREY))
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return whole[:33] + chunk + whole[33:]


@pytest.mark.parametrize(("kind", "head"), [(b"iCCP", b"x\0\0"), (b"zTXt", b"x\0\0"), (b"iTXt", b"x\0\1\0\0\0")])
def test_text_in_a_png_is_not_inflated_without_end(tmp_path: Path, kind: bytes, head: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with(kind, head + zlib.compress(bytes(100))))
    if kind != b"iCCP":
        np.testing.assert_array_equal(read_file(path, "xray")[0].pixels, GREY)
    path.write_bytes(png_with(kind, head + zlib.compress(bytes(2**25))))
    assert refusal(path, "xray") == "decode_error"


def test_a_picture_file_beyond_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LARGEST_PICTURE", 4000)
    path = tmp_path / "a.png"
    path.write_bytes(png_with(b"prVt", bytes(5000)))
    assert refusal(path, "xray") == "too_large"
    Pillow.fromarray(GREY).save(tmp_path / "a.tif", tiffinfo={270: "x" * 5000})
    assert refusal(tmp_path / "a.tif", "xray") == "too_large"


def tiff(path: Path, pages: list[np.ndarray], subfile: dict[int, int] | None = None) -> Path:
    writer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(writer) as stream:
        for number, page in enumerate(pages):
            info = TiffImagePlugin.ImageFileDirectory_v2()
            info[254] = (subfile or {}).get(number, 0)
            Pillow.fromarray(page).save(stream, format="TIFF", tiffinfo=info)
            stream.newFrame()
    path.write_bytes(writer.getvalue())
    return path


def test_the_pages_of_a_tiff_are_images_of_one_series(tmp_path: Path) -> None:
    pages = [picture(seed=seed, highest=65535) for seed in range(4)]
    pages[2] = np.full_like(pages[2], 7)
    path = tiff(tmp_path / "a.tif", pages)
    found = dict(read_source_file(SourceFile(path, Path("b/a.tif")), path, "us", STRICT).images)
    assert list(found) == ["0", "1", "2", "3"]
    assert {(image.series, image.stack) for index, image in found.items() if index != "2"} == {("b/a.tif", "")}
    for number in (0, 1, 3):
        image = found[str(number)]
        np.testing.assert_array_equal(image.pixels * image.slope + image.offset, pages[number])
        assert image.flags == ("ungeometric",)
        assert image.slice_index == number
    assert found["2"].pixels.min() == found["2"].pixels.max()


def test_thumbnails_and_masks_in_a_tiff_are_left_out(tmp_path: Path) -> None:
    pages = [picture(40, 52, 255, seed=seed).astype(np.uint8) for seed in range(4)]
    path = tiff(tmp_path / "a.tif", [pages[0], pages[1], pages[2], pages[3][:30]], {0: 1, 2: 4})
    found = dict(read_source_file(SourceFile(path, Path("a.tif")), path, "us", STRICT).images)
    assert list(found) == ["1"]
    np.testing.assert_array_equal(found["1"].pixels, pages[1])
    assert found["1"].flags == ("pages_left_out", "ungeometric")


def test_a_page_that_is_refused_refuses_the_file(tmp_path: Path) -> None:
    mask = np.where(GREY > 99, 255, 0).astype(np.uint8)
    assert refusal(tiff(tmp_path / "a.tif", [GREY, mask]), "us") == "label_map"


def test_arrays_are_read_one_image_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.stack([picture(20, 24, seed=seed) for seed in range(9)])
    np.savez_compressed(tmp_path / "a.npz", images=images)
    np.savez(tmp_path / "b.npz", images=np.asfortranarray(images))
    for name in "ab":
        found = read_file(tmp_path / f"{name}.npz", "mr")
        assert all(np.array_equal(one.pixels, other) for one, other in zip(found, images, strict=True))
    monkeypatch.setattr(arrays, "LARGEST_COLUMN", 1000)
    assert len(read_file(tmp_path / "a.npz", "mr")) == 9
    assert refusal(tmp_path / "b.npz", "mr") == "too_large"


def test_a_damaged_array_is_refused_at_its_end(tmp_path: Path) -> None:
    images = np.stack([picture(20, 24, seed=seed) for seed in range(9)])
    np.savez(tmp_path / "a.npz", images=images)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[3000] ^= 4
    (tmp_path / "a.npz").write_bytes(data)
    assert refusal(tmp_path / "a.npz", "mr") == "truncated"


def test_an_array_that_announces_more_than_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((9, 20, 24), np.uint16))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data.replace(b"(9, 20, 24), ", b"(99999,20,24)"))
    assert refusal(tmp_path / "a.npz", "mr") in ("truncated", "too_large")
