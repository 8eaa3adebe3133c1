"""DICOM files of slices at any place in the patient, plain, enhanced, as a mosaic, compressed in every syntax."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

EVERY_SYNTAX = {
    "implicit little endian": "1.2.840.10008.1.2",
    "explicit big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG lossless": "1.2.840.10008.1.2.4.57",
    "JPEG lossless SV1": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
}
_NATIVE = (str(ExplicitVRLittleEndian), *list(EVERY_SYNTAX.values())[:3])
_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Slice:
    """position: centre of the first pixel, LPS in mm; directions: of increasing column and row; values [row, column].

    Stored integer = (value - intercept) / slope.
    """

    position: Vector
    directions: tuple[Vector, Vector]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    number: int
    series: str
    values: npt.NDArray[np.float64] | None = None
    modality: str = "CT"
    thickness: float = 5.0
    seconds: float = 0.0
    slope: float = 1.0
    intercept: float = -1500.0
    signed: bool = False
    syntax: str = str(ExplicitVRLittleEndian)

    def positions(self) -> npt.NDArray[np.float64]:
        """Where each pixel lies [row, column, 3] in mm."""
        rows, columns = np.indices(self.shape, dtype=np.float64)
        across, down = np.array(self.directions[0]), np.array(self.directions[1])
        places: npt.NDArray[np.float64] = (
            np.array(self.position)
            + columns[..., None] * self.spacing[1] * across
            + rows[..., None] * self.spacing[0] * down
        )
        return places

    def stored(self) -> npt.NDArray[Any]:
        """16-bit integers [row, column]."""
        assert self.values is not None
        integers = np.rint((self.values - self.intercept) / self.slope)
        return integers.astype(np.int16 if self.signed else np.uint16)


def write_slice(path: Path, item: Slice, long_decimals: bool = False, **elements: Any) -> None:
    """A single-frame file; elements override what is set here, None removes it."""
    dataset = _common(item)
    _set_geometry(dataset, item)
    dataset.RescaleSlope, dataset.RescaleIntercept = item.slope, item.intercept
    _set_pixels(dataset, [item.stored()], item.syntax)
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    _save(path, dataset, item.syntax)
    if long_decimals:
        _lengthen(path)


def write_enhanced(path: Path, slices: list[Slice], phases: int = 1) -> None:
    """An enhanced CT whose frames are the slices in this order, phase after phase."""
    first = slices[0]
    dataset = _common(first)
    dataset.SOPClassUID = _ENHANCED_CT
    dataset.NumberOfFrames = len(slices)
    shared = Dataset()
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(first.spacing), first.thickness
    orientation = Dataset()
    orientation.ImageOrientationPatient = [_decimal(value) for direction in first.directions for value in direction]
    transformation = Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = first.slope, first.intercept
    transformation.RescaleType = "HU"
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([transformation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [_frame_group(item, number * phases // len(slices) + 1) for number, item in enumerate(slices)]
    )
    _set_pixels(dataset, [item.stored() for item in slices], first.syntax)
    _save(path, dataset, first.syntax)


def _frame_group(item: Slice, phase: int) -> Dataset:
    group, plane, content = Dataset(), Dataset(), Dataset()
    plane.ImagePositionPatient = [_decimal(value) for value in item.position]
    content.TemporalPositionIndex = phase
    group.PlanePositionSequence = Sequence([plane])
    group.FrameContentSequence = Sequence([content])
    return group


def write_mosaic(path: Path, slices: list[Slice]) -> None:
    """The slices as tiles of one MR image, with Siemens' private header."""
    first = slices[0]
    side = math.ceil(math.sqrt(len(slices)))
    rows, columns = first.shape
    mosaic = np.zeros((side * rows, side * columns), np.uint16)
    for number, item in enumerate(slices):
        top, left = number // side * rows, number % side * columns
        mosaic[top : top + rows, left : left + columns] = item.stored()
    across, down = np.array(first.directions[0]), np.array(first.directions[1])
    corner = (
        np.array(first.position)
        - across * first.spacing[1] * (side - 1) * columns / 2
        - down * first.spacing[0] * (side - 1) * rows / 2
    )
    normal = np.subtract(slices[1].position, first.position)
    dataset = _common(first)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    _set_geometry(dataset, first)
    dataset.ImagePositionPatient = [_decimal(value) for value in corner]
    dataset.SpacingBetweenSlices = float(np.linalg.norm(normal))
    dataset.RescaleSlope, dataset.RescaleIntercept = first.slope, first.intercept
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", _csa(len(slices), normal / np.linalg.norm(normal)))
    _set_pixels(dataset, [mosaic], first.syntax)
    _save(path, dataset, first.syntax)


def _csa(count: int, normal: npt.NDArray[np.float64]) -> bytes:
    """Siemens' CSA2 header with the two entries that describe a mosaic."""
    entries = {
        "NumberOfImagesInMosaic": ("US", [str(count)]),
        "SliceNormalVector": ("FD", [f"{value:.8f}" for value in normal]),
    }
    data = b"SV10\4\3\2\1" + struct.pack("<II", len(entries), 77)
    for name, (vr, items) in entries.items():
        data += struct.pack("<64si4siii", name.encode(), len(items), vr.encode(), 0, len(items), 77)
        for item in items:
            text = item.encode() + b"\0"
            data += struct.pack("<iiii", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4)
    return data + b"\0" * (len(data) % 2)


def write_directory(folder: Path) -> None:
    """A DICOMDIR beside the files of a folder."""
    files = FileSet()
    for path in sorted(folder.rglob("*.dcm")):
        files.add(path)
    scratch = folder / "scratch"
    files.write(scratch)
    (scratch / "DICOMDIR").rename(folder / "DICOMDIR")
    for path in sorted(scratch.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    scratch.rmdir()


def _common(item: Slice) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = _CLASSES[item.modality]
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[item.series, "study"])
    dataset.SeriesInstanceUID = item.series
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[item.series, "frame"])
    dataset.PatientID, dataset.PatientName = "TRAP", "Trap^Series"
    dataset.StudyID, dataset.StudyDate, dataset.StudyTime = "1", "20240101", "120000"
    dataset.SeriesNumber = 1
    dataset.Modality = item.modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = item.number
    dataset.AcquisitionTime = f"12{int(item.seconds // 60):02d}{item.seconds % 60:09.6f}"
    return dataset


def _set_geometry(dataset: Dataset, item: Slice) -> None:
    dataset.ImagePositionPatient = [_decimal(value) for value in item.position]
    dataset.ImageOrientationPatient = [_decimal(value) for direction in item.directions for value in direction]
    dataset.PixelSpacing = list(item.spacing)
    dataset.SliceThickness = item.thickness


def _set_pixels(dataset: Dataset, frames: list[npt.NDArray[Any]], syntax: str) -> None:
    pixels = frames[0]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if syntax in _NATIVE:
        native = [frame.byteswap() if syntax == "1.2.840.10008.1.2.2" else frame for frame in frames]
        dataset.PixelData = b"".join(frame.tobytes() for frame in native)
    else:
        dataset.PixelData = encapsulate([_encoded(frame, syntax) for frame in frames])
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OW" if syntax in _NATIVE else "OB"


def _encoded(pixels: npt.NDArray[Any], syntax: str) -> bytes:
    match syntax.rsplit(".", 1)[-1]:
        case "5":
            return bytes(
                RLELosslessEncoder.encode(
                    pixels.astype("<u2").tobytes(), rows=pixels.shape[0], columns=pixels.shape[1], samples_per_pixel=1,
                    bits_allocated=16, bits_stored=16, pixel_representation=0, number_of_frames=1,
                    photometric_interpretation="MONOCHROME2",
                )
            )  # fmt: skip
        case "57" | "70":
            data = imagecodecs.ljpeg_encode(pixels)
        case "80":
            data = imagecodecs.jpegls_encode(pixels)
        case "90":
            data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k")
        case _:
            data = imagecodecs.htj2k_encode(pixels)
    return bytes(data)


def _save(path: Path, dataset: Dataset, syntax: str) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def _lengthen(path: Path) -> None:
    """Write the position with more than the 16 characters that a decimal string may have, as some scanners do."""
    from pydicom import config, dcmread

    dataset = dcmread(path)
    values = [float(value) for value in dataset.ImagePositionPatient]
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        dataset["ImagePositionPatient"].VM  # noqa: B018 - parsed before it is replaced
        element = dataset["ImagePositionPatient"]
        element.VR = "LO"
        element.value = [f"{value:.18f}" for value in values]
        element.VR = "DS"
        dataset.save_as(path)
    finally:
        config.settings.writing_validation_mode = before


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.10f}"[:16]
