"""Small files of every format, made by other libraries than those that read them where there is a choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from scoutview.images import Modality
from scoutview.ingest import RefusedError, read_file

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def picture(rows: int = 40, columns: int = 52, highest: int = 4095, seed: int = 0) -> np.ndarray:
    """A smooth unsigned image with some noise, uint16 [row, column], that reaches 0 and `highest`."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    smooth = np.sin(x / 9 + seed) + np.cos(y / 7) + 0.1 * generator.standard_normal((rows, columns))
    scaled = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * highest
    return np.rint(scaled).astype(np.uint16)


def write_dicom(path: Path, pixels: np.ndarray | None, modality: str = "DX", **elements: Any) -> Path:
    """A DICOM file with `pixels` as they are; `elements` override or (None) remove what is set here.

    Besides keywords: syntax (transfer syntax UID) and frame (an encoded frame).
    """
    syntax = UID(elements.pop("syntax", ExplicitVRLittleEndian))
    frame = elements.pop("frame", None)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = CLASSES.get(modality, CLASSES["CR"])
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientID = "MRN-4711"
    dataset.PatientName = "Doe^Jane"
    dataset.Modality = modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = pixels.dtype.itemsize * 8
        dataset.BitsStored = elements.get("BitsStored", dataset.BitsAllocated)
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        if frame is not None:
            dataset.PixelData = encapsulate([frame])
            dataset["PixelData"].is_undefined_length = True
        else:
            order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
            data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
            dataset.PixelData = data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 or frame is not None else "OW"
    for keyword, value in elements.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_png(path: Path, pixels: np.ndarray) -> Path:
    """A PNG file of uint8 or uint16 pixels [row, column] or [row, column, channel]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def refusal(path: Path, modality: Modality | None = None) -> str:
    """The reason why a file is refused; it must be, and say what is wrong."""
    with pytest.raises(RefusedError) as caught:
        read_file(path, modality)
    assert caught.value.detail
    return caught.value.reason
