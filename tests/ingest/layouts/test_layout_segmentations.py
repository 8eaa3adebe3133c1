"""DICOM Segmentations: binary, fractional and label maps, joined by the SOP Instance UIDs of their frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import said, take
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from source_files import picture, write_dicom

from scoutview.commands.label import label
from scoutview.errors import UsageError
from scoutview.ingest.layouts.dicom_seg import is_segmentation, read_segmentation
from scoutview.store import bitmap_of


def item(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def write_seg(
    path: Path,
    frames: list[tuple[str, int, np.ndarray]],
    kind: str = "BINARY",
    listed: tuple[str, ...] = (),
    **elements: Any,
) -> Path:
    """frames: (SOP Instance UID of the image, segment number, pixels)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "SEG"
    dataset.SegmentationType = kind
    dataset.SegmentSequence = [item(SegmentNumber=1, SegmentLabel="tumour"), item(SegmentNumber=2, SegmentLabel="cyst")]
    dataset.ReferencedSeriesSequence = [
        item(ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID=uid) for uid in listed])
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            DerivationImageSequence=[item(SourceImageSequence=[item(ReferencedSOPInstanceUID=uid)])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
        )
        for uid, number, _ in frames
    ]
    pixels = np.stack([frame for _, _, frame in frames])
    dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = pixels.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelData = pack_bits(pixels.astype(np.uint8)) if bits == 1 else pixels.astype(np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def blob(y: int, x: int, value: int = 1, rows: int = 40, columns: int = 52) -> np.ndarray:
    frame = np.zeros((rows, columns), dtype=np.uint8)
    frame[y : y + 5, x : x + 7] = value
    return frame


def test_binary_segments_in_a_store(tmp_path: Path) -> None:
    for number in range(3):
        pixels = (picture(40, 52, 2000, number) - 1000).astype(np.int16)
        uids = {"SeriesInstanceUID": "1.6", "SOPInstanceUID": f"1.6.{number}"}
        write_dicom(tmp_path / "ct" / f"{number}.dcm", pixels, "CT", **uids)
    frames = [("1.6.0", 1, blob(3, 4)), ("1.6.0", 2, blob(20, 30)), ("1.6.1", 1, blob(10, 11))]
    seg = write_seg(tmp_path / "seg.dcm", frames, listed=("1.6.0", "1.6.1", "1.6.2"))
    store, _ = take(tmp_path / "ct", tmp_path / "store", modality=None)
    assert is_segmentation(seg)
    summary = label(store.path, seg, reader="D")
    assert (summary.masks, summary.targets) == (3, 3)
    known = said(store, "0.dcm", "1.dcm", "2.dcm")
    masks = {item.name: item for item in known["0.dcm"]}
    np.testing.assert_array_equal(bitmap_of(masks["tumour"], 40, 52), blob(3, 4) > 0)
    np.testing.assert_array_equal(bitmap_of(masks["cyst"], 40, 52), blob(20, 30) > 0)
    assert {(item.name, item.value, item.reader) for item in known["1.dcm"]} == {
        ("tumour", "1", "D"), ("cyst", "0", "D")
    }  # fmt: skip
    assert {(item.name, item.value) for item in known["2.dcm"]} == {("tumour", "0"), ("cyst", "0")}


def test_fractions_and_label_maps(tmp_path: Path) -> None:
    fractions = blob(3, 4, 127)
    fractions[3, 4] = 128
    seg = write_seg(tmp_path / "f.dcm", [("1.1", 1, fractions)], "FRACTIONAL", MaximumFractionalValue=255)
    (entry,) = read_segmentation(seg)
    assert np.argwhere(entry.masks[0].bitmap).tolist() == [[3, 4]]
    both = blob(3, 4) + blob(20, 30, 2)
    seg = write_seg(tmp_path / "l.dcm", [("1.1", 0, both)], "LABELMAP")
    (entry,) = read_segmentation(seg)
    found = {mask.name: mask.bitmap for mask in entry.masks}
    np.testing.assert_array_equal(found["tumour"], both == 1)
    np.testing.assert_array_equal(found["cyst"], both == 2)


def test_segmentations_without_an_image_or_of_another_size(tmp_path: Path) -> None:
    seg = write_seg(tmp_path / "s.dcm", [("1.1", 1, blob(3, 4))], PerFrameFunctionalGroupsSequence=[Dataset()])
    with pytest.raises(UsageError, match="frame 1 refers to 0 images"):
        list(read_segmentation(seg))
    write_dicom(tmp_path / "ct" / "a.dcm", picture(48, 52), "DX", SOPInstanceUID="1.1")
    store, _ = take(tmp_path / "ct", tmp_path / "store", modality=None)
    seg = write_seg(tmp_path / "t.dcm", [("1.1", 1, blob(3, 4))])
    summary = label(store.path, seg)
    assert summary.masks == 0
    assert any("1 boxes or masks do not fit the size of their image" in note for note in summary.notes)
    seg = write_seg(tmp_path / "u.dcm", [("1.1", 1, blob(3, 4))], SegmentSequence=[item(SegmentNumber=9)])
    with pytest.raises(UsageError, match="is no DICOM Segmentation that can be read"):
        list(read_segmentation(seg))
