"""The values that ingest reads from DICOM, against pydicom's own and against the standard's formulas by hand."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from source_files import SECONDARY_CAPTURE, picture, write_dicom, write_png

from scoutview.images import Image
from scoutview.ingest import RefusedError, read_file
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess


def read(path: Path) -> Image:
    (image,) = read_file(path)
    return image


def physical(image: Image) -> np.ndarray:
    return image.pixels * image.slope + image.offset


UNSIGNED_16 = picture(highest=65535)
SIGNED_16 = (picture(highest=40000).astype(np.int32) - 20000).astype(np.int16)
BITS_8 = picture(highest=255).astype(np.uint8)
NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("pixels", [UNSIGNED_16, SIGNED_16, BITS_8], ids=["u16", "i16", "u8"])
def test_native_syntaxes_give_the_stored_values(tmp_path: Path, syntax: str, pixels: np.ndarray) -> None:
    path = write_dicom(tmp_path / "a.dcm", pixels, "MR", syntax=syntax)
    image = read(path)
    np.testing.assert_array_equal(physical(image), pixels)
    np.testing.assert_array_equal(physical(image), pydicom.dcmread(path).pixel_array)


def run_lengths(pixels: np.ndarray) -> bytes:
    from pydicom.pixels.encoders import RLELosslessEncoder  # another implementation than the one that reads

    return RLELosslessEncoder.encode(
        pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=1,
        bits_allocated=pixels.dtype.itemsize * 8,
        bits_stored=pixels.dtype.itemsize * 8,
        pixel_representation=int(pixels.dtype.kind == "i"),
        number_of_frames=1,
        photometric_interpretation="MONOCHROME2",
    )


ENCODERS = {
    "1.2.840.10008.1.2.5": run_lengths,
    "1.2.840.10008.1.2.4.57": lambda pixels: imagecodecs.ljpeg_encode(pixels),
    "1.2.840.10008.1.2.4.70": lambda pixels: imagecodecs.ljpeg_encode(pixels),
    "1.2.840.10008.1.2.4.80": lambda pixels: imagecodecs.jpegls_encode(pixels),
    "1.2.840.10008.1.2.4.81": lambda pixels: imagecodecs.jpegls_encode(pixels),
    "1.2.840.10008.1.2.4.90": lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
    "1.2.840.10008.1.2.4.91": lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
    "1.2.840.10008.1.2.4.201": lambda pixels: imagecodecs.htj2k_encode(pixels),
    "1.2.840.10008.1.2.4.202": lambda pixels: imagecodecs.htj2k_encode(pixels),
    "1.2.840.10008.1.2.4.203": lambda pixels: imagecodecs.htj2k_encode(pixels),
}


@pytest.mark.parametrize("syntax", sorted(ENCODERS))
@pytest.mark.parametrize("pixels", [UNSIGNED_16, SIGNED_16, BITS_8], ids=["u16", "i16", "u8"])
def test_lossless_syntaxes_give_the_stored_values(tmp_path: Path, syntax: str, pixels: np.ndarray) -> None:
    coded = pixels
    if pixels.dtype.kind == "i" and syntax[-3:] in (".57", ".70", ".80", ".81"):
        coded = pixels.view(np.uint16)  # these codecs know no sign: the header's is put back
    frame = ENCODERS[syntax](coded)
    image = read(write_dicom(tmp_path / "a.dcm", pixels, "MR", syntax=syntax, frame=frame))
    np.testing.assert_array_equal(physical(image), pixels)


def test_baseline_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    frame = imagecodecs.jpeg8_encode(BITS_8, level=90)
    image = read(write_dicom(tmp_path / "a.dcm", BITS_8, "DX", syntax="1.2.840.10008.1.2.4.50", frame=frame))
    assert np.abs(physical(image) - imagecodecs.jpeg8_decode(frame)).max() <= 1
    assert np.abs(physical(image) - BITS_8).mean() < 4


def test_bits_above_those_stored_are_ignored(tmp_path: Path) -> None:
    stored = picture(highest=4095)
    with_overlay = stored | 0x3000
    image = read(write_dicom(tmp_path / "a.dcm", with_overlay, "MR", BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(physical(image), stored)


def test_a_high_bit_above_the_stored_bits_shifts(tmp_path: Path) -> None:
    stored = picture(highest=4095)
    image = read(write_dicom(tmp_path / "a.dcm", stored << 4, "MR", BitsStored=12, HighBit=15))
    np.testing.assert_array_equal(physical(image), stored)


def test_twelve_signed_bits_are_sign_extended(tmp_path: Path) -> None:
    values = picture(highest=4095).astype(np.int16) - 2048
    stored = (values & 0x0FFF).astype(np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, "MR", BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(physical(read(path)), values)


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, -1000), (0.5, -1024)])
def test_ct_is_in_hounsfield_units(tmp_path: Path, slope: float, intercept: float) -> None:
    stored = picture(highest=3000)
    path = write_dicom(tmp_path / "a.dcm", stored, "CT", RescaleSlope=slope, RescaleIntercept=intercept)
    image = read(path)
    assert image.units == "HU"
    dataset = pydicom.dcmread(path)
    np.testing.assert_allclose(physical(image), apply_modality_lut(dataset.pixel_array, dataset), atol=1e-9)


def test_ct_stays_in_hounsfield_units_whatever_its_display(tmp_path: Path) -> None:
    stored = picture(highest=3000)
    image = read(write_dicom(tmp_path / "a.dcm", stored, "CT", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(physical(image), stored.astype(int) - 1024)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_takes_the_darkest_valid_value(tmp_path: Path, photometric: str) -> None:
    stored = picture(highest=3000) + 500
    stored[:5] = 0
    stored[5:8] = 7
    path = write_dicom(
        tmp_path / "a.dcm", stored, "DX", PhotometricInterpretation=photometric, PixelPaddingValue=0,
        PixelPaddingRangeLimit=10,
    )  # fmt: skip
    image = read(path)
    shown = physical(image)
    assert (shown[:8] == shown.min()).all()
    expected = np.ptp(stored[8:])
    assert np.ptp(shown) == expected


def test_signed_padding_written_as_unsigned(tmp_path: Path) -> None:
    stored = SIGNED_16.copy()
    stored[:3] = -32000
    path = write_dicom(tmp_path / "a.dcm", stored, "MR")
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 32000)
    dataset.save_as(path)
    assert physical(read(path)).min() == SIGNED_16[3:].min()


def display(image: Image) -> np.ndarray:
    """Shown values from 0 to 1 between the extremes."""
    values = physical(image)
    return (values - values.min()) / np.ptp(values)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, -100), (3, 17)])
def test_a_window_is_applied_as_the_standard_says(
    tmp_path: Path, function: str, photometric: str, slope: float, intercept: float
) -> None:
    stored = picture(highest=4095)
    center, width = 1800 * slope + intercept, 1500 * slope
    path = write_dicom(
        tmp_path / "a.dcm", stored, "DX", BitsStored=12, HighBit=11, WindowCenter=[center, 1], WindowWidth=[width, 2],
        VOILUTFunction=function, RescaleSlope=slope, RescaleIntercept=intercept, PhotometricInterpretation=photometric,
    )  # fmt: skip
    expected = np.empty(stored.shape)
    for place, value in np.ndenumerate(stored):  # PS3.3 C.11.2.1.2 and C.11.2.1.3, one pixel at a time
        x = float(value) * slope + intercept
        if function == "LINEAR":
            if x <= center - 0.5 - (width - 1) / 2:
                y = 0.0
            elif x > center - 0.5 + (width - 1) / 2:
                y = 1.0
            else:
                y = (x - (center - 0.5)) / (width - 1) + 0.5
        elif function == "LINEAR_EXACT":
            y = min(max((x - center) / width + 0.5, 0.0), 1.0)
        else:
            y = 1 / (1 + np.exp(-4 * (x - center) / width))
        expected[place] = 1 - y if photometric == "MONOCHROME1" else y
    expected = (expected - expected.min()) / np.ptp(expected)
    tolerance = 1e-4 if function == "SIGMOID" else 1.01 * slope / width
    np.testing.assert_allclose(display(read(path)), expected, atol=tolerance)


@pytest.mark.parametrize("window", [None, (1800.0, 1500.0), (2047.5, 4095.0), (1000.5, 77.0)])
@pytest.mark.parametrize("mark", ["MONOCHROME1", "INVERSE"])
def test_inverted_twins_are_stored_alike(tmp_path: Path, window: tuple[float, float] | None, mark: str) -> None:
    stored = picture(highest=4095)
    common = {"BitsStored": 12, "HighBit": 11, "VOILUTFunction": "LINEAR_EXACT"}
    inverse = {"PhotometricInterpretation": mark} if mark == "MONOCHROME1" else {"PresentationLUTShape": mark}
    first, second = dict(common), {**common, **inverse}
    if window:
        center, width = window
        first |= {"WindowCenter": center, "WindowWidth": width}
        second |= {"WindowCenter": 4095 - center, "WindowWidth": width}
    plain = read(write_dicom(tmp_path / "a.dcm", stored, "DX", **first))
    turned = read(write_dicom(tmp_path / "b.dcm", 4095 - stored, "DX", **second))
    np.testing.assert_array_equal(plain.pixels, turned.pixels)
    assert (plain.slope, plain.offset) == (turned.slope, turned.offset)


def test_the_first_voi_lut_is_preferred_to_the_window(tmp_path: Path) -> None:
    stored = picture(highest=1023)
    item = Dataset()
    item.LUTDescriptor = [512, 100, 16]
    item.LUTData = np.rint(60000 * np.linspace(0, 1, 512) ** 2).astype("<u2").tobytes()
    path = write_dicom(
        tmp_path / "a.dcm", stored, "DX", BitsStored=10, HighBit=9, VOILUTSequence=Sequence([item]),
        WindowCenter=3, WindowWidth=5,
    )  # fmt: skip
    dataset = pydicom.dcmread(path)
    expected = apply_voi_lut(dataset.pixel_array, dataset, prefer_lut=True)
    np.testing.assert_allclose(physical(read(path)), expected)


def test_a_modality_lut_is_applied(tmp_path: Path) -> None:
    stored = picture(highest=255)
    item = Dataset()
    item.LUTDescriptor = [256, 0, 16]
    item.ModalityLUTType = "US"
    item.LUTData = (100 + 7 * np.arange(256)).astype("<u2").tobytes()
    path = write_dicom(tmp_path / "a.dcm", stored, "DX", ModalityLUTSequence=Sequence([item]))
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(physical(read(path)), apply_modality_lut(dataset.pixel_array, dataset))


def test_a_negative_slope_keeps_bright_bright(tmp_path: Path) -> None:
    stored = picture(highest=1000)
    image = read(write_dicom(tmp_path / "a.dcm", stored, "DX", RescaleSlope=-2, RescaleIntercept=5))
    np.testing.assert_allclose(physical(image), 5 - 2.0 * stored)
    assert image.slope > 0


def test_unsigned_values_above_int16_are_shifted(tmp_path: Path) -> None:
    image = read(write_dicom(tmp_path / "a.dcm", UNSIGNED_16, "MR"))
    assert image.shifted
    np.testing.assert_array_equal(physical(image), UNSIGNED_16)


@pytest.mark.parametrize("planar", [0, 1])
def test_ultrasound_colour_becomes_luma(tmp_path: Path, planar: int) -> None:
    rgb = np.stack([picture(highest=255, seed=seed) for seed in (1, 2, 3)], axis=-1).astype(np.uint8)
    stored = rgb if planar == 0 else np.moveaxis(rgb, -1, 0).reshape(rgb.shape)
    image = read(write_dicom(tmp_path / "a.dcm", stored, "US", PlanarConfiguration=planar))
    expected = [[round(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in row] for row in rgb.astype(float)]
    np.testing.assert_array_equal(image.pixels, expected)


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_ultrasound_luma_is_read_as_it_is(tmp_path: Path, photometric: str) -> None:
    luma = picture(highest=255).astype(np.uint8)
    if photometric == "YBR_FULL":
        stored = np.stack([luma, luma // 2, 255 - luma], axis=-1)
        path = write_dicom(tmp_path / "a.dcm", stored, "US", PhotometricInterpretation=photometric)
    else:
        pairs = np.stack([luma[:, ::2], luma[:, 1::2], luma[:, ::2] // 2, luma[:, ::2] // 3], axis=-1)
        path = write_dicom(
            tmp_path / "a.dcm", np.zeros((*luma.shape, 3), np.uint8), "US", PhotometricInterpretation=photometric,
            PixelData=pairs.tobytes(),
        )  # fmt: skip
    np.testing.assert_array_equal(read(path).pixels, luma)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.80"])
def test_compressed_ultrasound_colour(tmp_path: Path, syntax: str) -> None:
    rgb = np.stack([picture(highest=255, seed=seed) for seed in (1, 2, 3)], axis=-1).astype(np.uint8)
    encoders = {"90": imagecodecs.jpeg2k_encode, "01": imagecodecs.htj2k_encode, "80": imagecodecs.jpegls_encode}
    frame = encoders[syntax[-2:]](rgb)
    path = write_dicom(tmp_path / "a.dcm", rgb, "US", syntax=syntax, frame=frame)
    expected = np.rint(rgb @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_array_equal(read(path).pixels, expected)


def test_header_elements_reach_the_image(tmp_path: Path) -> None:
    image = read(
        write_dicom(
            tmp_path / "a.dcm", picture(highest=2000), "CT", PixelSpacing=[0.7, 0.8], Manufacturer="Siemens (Dr. X)",
            BodyPartExamined="chest ", ImagePositionPatient=[1, 2, 30], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
    )  # fmt: skip
    assert image.spacing == (0.7, 0.8)
    assert image.slice_position == 30
    assert (image.body_part, image.manufacturer) == ("CHEST", "SIEMENS")
    film = read(
        write_dicom(
            tmp_path / "b.dcm", picture(highest=2000), "DX", ImagerPixelSpacing=[0.2, 0.2], ViewPosition="PA",
            BodyPartExamined="LEFT LUNG OF MRS DOE",
        )
    )  # fmt: skip
    assert (film.spacing, film.view, film.body_part) == ((0.2, 0.2), "PA", "")


def test_a_radiograph_as_secondary_capture_is_taken(tmp_path: Path) -> None:
    assert read(write_dicom(tmp_path / "a.dcm", BITS_8, "CR", SOPClassUID=SECONDARY_CAPTURE)).modality == "xray"


def test_identity_comes_from_the_file_meta_group_when_the_data_set_is_blank(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", BITS_8, "CR")
    dataset = pydicom.dcmread(path)
    uid = str(dataset.SOPInstanceUID)
    dataset.SOPInstanceUID = dataset.SOPClassUID = ""
    dataset.save_as(path)
    assert read(path).instance == uid


def test_without_patient_the_study_holds_its_images_together(tmp_path: Path) -> None:
    first = write_dicom(tmp_path / "a.dcm", BITS_8, "CR", PatientID="", StudyInstanceUID="1.2.3")
    second = write_dicom(tmp_path / "b.dcm", BITS_8, "CR", PatientID=None, StudyInstanceUID="1.2.3")
    assert read(first).patient == read(second).patient != ""


def test_a_dicom_file_and_its_picture_look_alike(tmp_path: Path) -> None:
    dicom = read(write_dicom(tmp_path / "a.dcm", BITS_8, "DX"))
    (png,) = read_file(write_png(tmp_path / "a.png", BITS_8), "xray")
    settings = Preprocessing()
    np.testing.assert_array_equal(
        preprocess(dicom.pixels, calibration_of(dicom), settings), preprocess(png.pixels, calibration_of(png), settings)
    )


def test_no_malformed_byte_of_a_header_crashes(tmp_path: Path) -> None:
    original = write_dicom(tmp_path / "a.dcm", BITS_8[:16, :16], "CR", PixelSpacing=[0.7, 0.8], WindowWidth=100,
                           WindowCenter=50).read_bytes()  # fmt: skip
    generator = np.random.default_rng(3)
    for trial in range(300):
        data = bytearray(original)
        for _ in range(1 + trial % 4):
            data[generator.integers(132, len(data) - 256)] = generator.integers(256)
        path = tmp_path / "b.dcm"
        path.write_bytes(bytes(data))
        with suppress(RefusedError):
            assert read(path).pixels.dtype == np.int16
