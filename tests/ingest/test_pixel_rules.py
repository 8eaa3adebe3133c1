"""Palettes, wide integers, overlays, text beside ultrasound, windows for the record: against pydicom and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut
from pydicom.sequence import Sequence
from source_files import picture, write_dicom

from scoutview.images import Image
from scoutview.ingest import RefusedError, Rules, read_file

GREY = picture(highest=255).astype(np.uint8)


def read(path: Path, rules: Rules = Rules()) -> Image:  # noqa: B008
    (image,) = read_file(path, rules=rules)
    return image


def physical(image: Image) -> np.ndarray:
    return image.pixels * image.slope + image.offset


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_luma(tmp_path: Path, bits: int) -> None:
    generator = np.random.default_rng(0)
    tables = {name: generator.integers(0, 2**bits, 256) for name in ("Red", "Green", "Blue")}
    elements = {}
    for name, table in tables.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{name}PaletteColorLookupTableData"] = table.astype("<u2" if bits == 16 else "u1").tobytes()
    path = write_dicom(tmp_path / "a.dcm", GREY, "US", PhotometricInterpretation="PALETTE COLOR", **elements)
    red, green, blue = (tables[name][GREY] / (2**bits - 1) * 255 for name in ("Red", "Green", "Blue"))
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    np.testing.assert_allclose(physical(read(path)), expected, atol=1.0)
    dataset = pydicom.dcmread(path)
    colours = apply_color_lut(dataset.pixel_array, dataset).astype(float) / (2**bits - 1) * 255
    np.testing.assert_allclose(physical(read(path)), colours @ [0.299, 0.587, 0.114], atol=1.0)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
@pytest.mark.parametrize("signed", [False, True])
def test_32_bits_are_read_and_kept_within_the_quantisation(tmp_path: Path, syntax: str, signed: bool) -> None:
    values = picture(highest=65535).astype(np.int64) * 3000 - (90_000_000 if signed else 0)
    stored = values.astype(np.int32 if signed else np.uint32)
    path = write_dicom(tmp_path / "a.dcm", stored, "MR", syntax=syntax)
    expected = pydicom.dcmread(path).pixel_array.astype(float)
    np.testing.assert_array_equal(expected, values)
    assert np.abs(physical(read(path)) - expected).max() <= np.ptp(values) / 131070 * 1.001


def test_32_bit_ct_is_exact(tmp_path: Path) -> None:
    stored = picture(highest=3000).astype(np.int32) - 1024
    image = read(write_dicom(tmp_path / "a.dcm", stored, "CT", RescaleIntercept=0))
    np.testing.assert_array_equal(physical(image), stored)


def test_an_overlay_is_noted_and_not_drawn(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", picture(highest=3000), "MR")
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x0010), "US", 40)
    dataset.add_new((0x6000, 0x0011), "US", 52)
    dataset.add_new((0x6000, 0x3000), "OW", b"\xff" * 260)
    dataset.save_as(path)
    image = read(path)
    np.testing.assert_array_equal(physical(image), picture(highest=3000))
    assert "overlay" in image.flags


@pytest.mark.parametrize(("share", "flags"), [(0.3, False), (0.7, True)])
def test_a_saturated_radiograph_is_flagged(tmp_path: Path, share: float, flags: bool) -> None:
    stored = picture(highest=3000)
    stored[: int(40 * share)] = 0
    assert ("saturated" in read(write_dicom(tmp_path / "a.dcm", stored, "DX")).flags) == flags


def test_what_was_applied_is_recorded(tmp_path: Path) -> None:
    stored = picture(highest=4095)
    plain = read(write_dicom(tmp_path / "a.dcm", stored, "DX"))
    assert (plain.window, plain.units) == ("", "")
    shown = read(
        write_dicom(tmp_path / "b.dcm", stored, "DX", WindowCenter=2000, WindowWidth=3000,
                    PhotometricInterpretation="MONOCHROME1", BurnedInAnnotation="NO")
    )  # fmt: skip
    assert (shown.window, shown.flags) == ("linear 2000 3000", ("inverted",))
    assert "burned_in_unknown" in plain.flags
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = (np.arange(4096) * 16).astype("<u2").tobytes()
    lut = read(write_dicom(tmp_path / "c.dcm", stored, "DX", VOILUTSequence=Sequence([item])))
    assert lut.window == "lut"
    ct = read(write_dicom(tmp_path / "d.dcm", picture(highest=3000), "CT", WindowCenter=40, WindowWidth=80))
    assert (ct.window, ct.units) == ("", "HU")


def region(left: int, top: int, right: int, bottom: int) -> Dataset:
    item = Dataset()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.RegionSpatialFormat = item.RegionDataType = 1
    return item


def test_outside_the_ultrasound_regions_nothing_is_left(tmp_path: Path) -> None:
    stored = np.maximum(GREY, 1)
    regions = Sequence([region(5, 10, 20, 30), region(30, 12, 51, 39)])
    image = read(write_dicom(tmp_path / "a.dcm", stored, "US", SequenceOfUltrasoundRegions=regions))
    expected = np.zeros_like(stored)
    for row in range(40):
        for column in range(52):
            inside = (5 <= column <= 20 and 10 <= row <= 30) or (30 <= column <= 51 and 12 <= row <= 39)
            expected[row, column] = stored[row, column] if inside else 0
    np.testing.assert_array_equal(physical(image), expected)
    assert "text_masked" in image.flags


@pytest.mark.parametrize("regions", [None, [], [region(9, 9, 5, 5)], [Dataset()]])
def test_ultrasound_without_regions_is_flagged_or_refused(tmp_path: Path, regions: list[Dataset] | None) -> None:
    elements = {} if regions is None else {"SequenceOfUltrasoundRegions": Sequence(regions)}
    path = write_dicom(tmp_path / "a.dcm", GREY, "US", **elements)
    image = read(path)
    np.testing.assert_array_equal(physical(image), GREY)
    assert "text_unknown" in image.flags
    with pytest.raises(RefusedError) as caught:
        read(path, Rules(ultrasound_text="refuse"))
    assert caught.value.reason == "text_unknown"
