"""What `benchmarks/fuzz.py` found, and a little of the same: damaged files are refused with the reason that fits."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from source_files import picture, refusal, write_dicom

from scoutview.ingest import RefusedError, read_file
from scoutview.phantoms.trap_files import EVERY_SYNTAX, Slice, write_enhanced, write_slice

GREY = picture(highest=255).astype(np.uint8)
PIXELS = picture(highest=3000)
ENCODERS = {
    "1.2.840.10008.1.2.4.70": lambda pixels: imagecodecs.ljpeg_encode(pixels),
    "1.2.840.10008.1.2.4.90": lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
    "1.2.840.10008.1.2.4.201": lambda pixels: imagecodecs.htj2k_encode(pixels),
}


@pytest.mark.parametrize("name", ["IHDR", "IDAT"])
def test_the_checksums_of_a_png(tmp_path: Path, name: str) -> None:
    whole = bytes(imagecodecs.png_encode(GREY))
    place = whole.index(name.encode())
    (length,) = struct.unpack(">I", whole[place - 4 : place])
    path = tmp_path / "a.png"
    changed = bytearray(whole)
    changed[place + 4 + length] ^= 1
    path.write_bytes(changed)
    assert refusal(path, "us") == "decode_error"
    if name == "IDAT":
        np.testing.assert_array_equal(np.asarray(Pillow.open(path)), GREY)  # Pillow does not look at it
    path.write_bytes(whole[:-12])
    assert refusal(path, "us") == "truncated"


def test_a_deep_colour_png_whose_data_are_damaged(tmp_path: Path) -> None:
    colour = np.stack([PIXELS, PIXELS[::-1], PIXELS // 2], axis=-1)
    whole = bytearray(imagecodecs.png_encode(colour))
    place = whole.index(b"IDAT")
    (length,) = struct.unpack(">I", whole[place - 4 : place])
    whole[place + 30 : place + 60] = bytes(30)
    whole[place + 4 + length : place + 8 + length] = struct.pack(">I", zlib.crc32(whole[place : place + 4 + length]))
    (tmp_path / "a.png").write_bytes(whole)
    assert refusal(tmp_path / "a.png", "us") == "decode_error"


def slices() -> list[Slice]:
    values = PIXELS.astype(np.float64) - 1100
    return [
        Slice((0.0, 0.0, 5.0 * z), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (1.0, 1.0), (40, 52), z + 1, "1.2.3", values + z)
        for z in range(4)
    ]


def test_a_number_in_a_functional_group_that_is_none(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", slices())
    assert len(read_file(tmp_path / "a.dcm")) == 4
    data = (tmp_path / "a.dcm").read_bytes()
    place = data.index(b"\x20\0\x32\0DS") + 8
    (tmp_path / "a.dcm").write_bytes(data[:place] + b"x" + data[place + 1 :])
    assert refusal(tmp_path / "a.dcm") == "bad_header"


def test_the_header_of_an_array_that_is_cut(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.stack([PIXELS] * 3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", stream.getvalue().replace(b"(3, 40, 52)", b"((3, 40, 52"))
    assert refusal(tmp_path / "a.npz", "us") == "unknown_layout"


def test_a_zip_directory_that_leads_in_front_of_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.stack([PIXELS] * 3))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[:300] + data[400:])
    assert refusal(tmp_path / "a.npz", "us") == "truncated"


@pytest.mark.parametrize("new", [b"space \0\x7figin", b"space origix", b"kinds:\0x"])
def test_a_damaged_field_of_a_nrrd_is_not_passed_over(tmp_path: Path, new: bytes) -> None:
    header = (
        b"NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nsizes: 20 24 30\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        b"encoding: raw\nendian: little\nkinds: space space space\nspace origin: (1,2,3)\nno field:=of the format\n\n"
    )
    values = np.arange(20 * 24 * 30, dtype="<i2").tobytes()
    (tmp_path / "a.nrrd").write_bytes(header + values)
    assert len(read_file(tmp_path / "a.nrrd", "mr")) == 30
    old = b"kinds: s" if new.startswith(b"kinds") else b"space origin"
    (tmp_path / "a.nrrd").write_bytes(header.replace(old, new) + values)
    assert refusal(tmp_path / "a.nrrd", "mr") == "bad_header"


def test_a_header_that_ends_within_an_element_is_truncated(tmp_path: Path) -> None:
    data = write_dicom(tmp_path / "a.dcm", PIXELS, "MR", syntax="1.2.840.10008.1.2").read_bytes()
    for end in range(300, 700, 7):
        (tmp_path / "a.dcm").write_bytes(data[:end])
        assert refusal(tmp_path / "a.dcm") != "unreadable"


@pytest.mark.parametrize("keyword", ["PixelRepresentation", "PlanarConfiguration"])
def test_elements_without_which_the_pixels_have_no_meaning(tmp_path: Path, keyword: str) -> None:
    colour = np.stack([GREY, GREY[::-1], GREY // 2], axis=-1)
    assert refusal(write_dicom(tmp_path / "a.dcm", colour, "US", **{keyword: None})) == "bad_header"
    with pytest.raises(AttributeError):
        _ = pydicom.dcmread(tmp_path / "a.dcm").pixel_array


def whole_files(folder: Path) -> list[tuple[str | None, bytes]]:
    """A small file of each format, in one order."""
    made: list[tuple[str | None, bytes]] = []
    for syntax in ("1.2.840.10008.1.2.1", *EVERY_SYNTAX.values()):
        write_slice(folder / "a.dcm", Slice(**{**vars(slices()[0]), "syntax": syntax}))
        made.append((None, (folder / "a.dcm").read_bytes()))
    write_enhanced(folder / "a.dcm", slices())
    volume = nib.Nifti1Image(np.arange(20 * 24 * 18, dtype=np.int16).reshape(20, 24, 18), np.eye(4)).to_bytes()
    arrays, pages = io.BytesIO(), io.BytesIO()
    np.savez_compressed(arrays, images=np.stack([PIXELS] * 2))
    Pillow.fromarray(GREY).save(pages, "TIFF", save_all=True, append_images=[Pillow.fromarray(GREY[::-1])])
    header = (
        b"ObjectType = Image\nNDims = 3\nDimSize = 20 24 18\nElementType = MET_SHORT\n"
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1\n"
        b"Offset = 0 0 0\nElementSpacing = 1 1 1\nElementDataFile = LOCAL\n"
    )
    return [
        *made,
        (None, (folder / "a.dcm").read_bytes()),
        ("mr", volume),
        ("mr", gzip.compress(volume)),
        ("mr", header + volume[352:]),
        ("us", bytes(imagecodecs.png_encode(GREY))),
        ("us", bytes(imagecodecs.jpeg8_encode(GREY))),
        ("us", bytes(imagecodecs.tiff_encode(PIXELS))),
        ("us", pages.getvalue()),
        ("us", arrays.getvalue()),
    ]


@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(choice=st.integers(0, 10**6), edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), max_size=4),
       end=st.floats(0.02, 1.3), early=st.booleans())  # fmt: skip
def test_a_damaged_file_is_taken_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    choice: int,
    edits: list[tuple[float, bytes]],
    end: float,
    early: bool,
) -> None:
    files = _FILES or whole_files(tmp_path_factory.mktemp("whole"))
    _FILES[:] = files
    modality, data = files[choice % len(files)]
    changed = bytearray(data)
    for place, value in edits:
        begin = int(place * (min(len(data), 1200) if early else len(data)))
        changed[begin : begin + len(value)] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(changed[: int(end * len(changed))])
    try:
        images = read_file(path, modality)  # type: ignore[arg-type]
    except RefusedError:
        return
    assert all(image.pixels.min() < image.pixels.max() for image in images)


_FILES: list[tuple[str | None, bytes]] = []


def damaged_frame(syntax: str, changes: dict[int, int]) -> bytes:
    frame = bytearray(ENCODERS[syntax](PIXELS))
    for place, value in changes.items():
        frame[place] = value
    return bytes(frame)


@pytest.mark.parametrize(
    ("syntax", "changes"),
    [
        ("1.2.840.10008.1.2.4.201", {39: 1}),  # the tiles begin below the image: the decoder never ends
        ("1.2.840.10008.1.2.4.201", {72: 3}),  # the quantisation of some bands is missing: it reads past the end
        ("1.2.840.10008.1.2.4.201", {62: 0}),  # no layer
        ("1.2.840.10008.1.2.4.201", {31: 0}),  # more tiles than there may be
        ("1.2.840.10008.1.2.4.201", {41: 9}),  # components without a description
        ("1.2.840.10008.1.2.4.90", {43: 2}),
        ("1.2.840.10008.1.2.4.70", {3: 0xE1}),  # no Huffman table: the decoder takes what its memory holds
        ("1.2.840.10008.1.2.4.70", {8: 9}),
    ],
)
def test_a_codestream_that_would_mislead_its_decoder(tmp_path: Path, syntax: str, changes: dict[int, int]) -> None:
    frame = damaged_frame(syntax, changes)
    path = write_dicom(tmp_path / "a.dcm", PIXELS, "MR", syntax=syntax, frame=frame)
    assert refusal(path) == "decode_error"
    write_dicom(path, PIXELS, "MR", syntax=syntax, frame=damaged_frame(syntax, {}))
    np.testing.assert_array_equal(read_file(path)[0].pixels, PIXELS)


def test_an_error_that_the_decoder_passes_over(tmp_path: Path) -> None:
    """HTJ2K: where its library fails, the decoder returns the pixels so far, without an error."""
    whole = bytes(imagecodecs.htj2k_encode(PIXELS))
    generator = np.random.default_rng(0)
    passed_over = 0
    for place in generator.integers(110, len(whole) - 8, 60):
        frame = whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        path = write_dicom(tmp_path / "a.dcm", PIXELS, "MR", syntax="1.2.840.10008.1.2.4.201", frame=frame)
        try:
            read_file(path)
        except RefusedError as error:
            passed_over += "RuntimeError while" in error.detail
    assert passed_over >= 3


def test_numbers_beyond_every_image(tmp_path: Path) -> None:
    assert refusal(write_dicom(tmp_path / "a.dcm", PIXELS, "DX", WindowCenter=1e30, WindowWidth=1e20)) == "bad_header"
    affine = np.eye(4)
    affine[0, 3] = -3e38
    volume = np.arange(20 * 24 * 18, dtype=np.int16).reshape(20, 24, 18)
    (tmp_path / "a.nii").write_bytes(nib.Nifti1Image(volume, affine).to_bytes())
    assert refusal(tmp_path / "a.nii", "mr") == "bad_header"


def test_a_value_representation_that_there_is_not(tmp_path: Path) -> None:
    colour = np.stack([GREY, GREY[::-1], GREY // 2], axis=-1)
    data = write_dicom(tmp_path / "a.dcm", colour, "US").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data.replace(b"\x28\0\x10\0US", b"\x28\0\x10\0\x55\x80", 1))
    assert refusal(tmp_path / "a.dcm") == "bad_header"
