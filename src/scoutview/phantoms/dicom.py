"""One slice as a valid DICOM file: DX, CT, MR or US, Explicit VR Little Endian, the same bytes every time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

from scoutview.phantoms.finding import Slice
from scoutview.phantoms.noise import patient_generator
from scoutview.phantoms.version import GENERATOR_VERSION

HU_INTERCEPT = -1024
"""Stored value + intercept = HU, so that stored CT values are unsigned."""

_CLASSES = {
    "xray": DigitalXRayImageStorageForPresentation,
    "ct": CTImageStorage,
    "mr": MRImageStorage,
    "us": UltrasoundImageStorage,
}
_MODALITIES = {"xray": "DX", "ct": "CT", "mr": "MR", "us": "US"}
_BODY_PARTS = {"xray": "CHEST", "ct": "HEAD", "mr": "BRAIN", "us": "BREAST"}
_DESCRIPTIONS = {"xray": "Chest PA", "ct": "Head native", "mr": "Brain T1 with contrast agent", "us": "Breast"}


@dataclass(frozen=True)
class Patient:
    """What all files of one patient share: demographics, and how this patient's machine stores pixels."""

    modality: str
    seed: int
    index: int
    sex: str
    age: int
    inverted: bool
    coloured: bool

    @property
    def folder(self) -> str:
        """The name of the patient's folder, from P0001."""
        return f"P{self.index + 1:04d}"

    @property
    def identifier(self) -> str:
        """The Patient ID."""
        return f"PHANTOM-{self.modality}-{self.index + 1:04d}"

    @property
    def name(self) -> str:
        """The Patient's Name, as DICOM writes names."""
        return f"Phantom^{self.modality.capitalize()}{self.index + 1:04d}"

    def uid(self, *parts: object) -> str:
        """A UID that is a function of generator version, seed, patient and `parts`."""
        sources = ["scoutview phantoms", GENERATOR_VERSION, str(self.seed), self.modality, str(self.index)]
        return str(generate_uid(entropy_srcs=[*sources, *map(str, parts)]))


def random_patient(modality: str, seed: int, index: int) -> Patient:
    """Sex, age and storage of patient `index`: one radiograph in five is MONOCHROME1, every other US is RGB."""
    # The drawing has this key too; jumping ahead keeps the two streams apart.
    generator = np.random.Generator(patient_generator(seed, modality, index).bit_generator.jumped())  # type: ignore[attr-defined]
    return Patient(
        modality=modality,
        seed=seed,
        index=index,
        sex="F" if generator.random() < (0.9 if modality == "us" else 0.5) else "M",
        age=int(generator.integers(18, 90)),
        inverted=modality == "xray" and bool(generator.random() < 0.2),
        coloured=modality == "us" and bool(generator.random() < 0.5),
    )


def write_dicom(path: Path, patient: Patient, image: Slice, number: int, thickness: float, gap: float) -> None:
    """Write `image` as instance `number` (from 1) of the patient's only series.

    thickness, gap: mm of a slice, and between the centres of neighbours; both unused for DX and US.
    """
    dataset = _common(patient, number)
    match patient.modality:
        case "xray":
            _describe_radiograph(dataset, image, patient.inverted)
        case "ct":
            _describe_volume(dataset, patient, image, thickness, gap)
            _describe_ct(dataset, image)
        case "mr":
            _describe_volume(dataset, patient, image, thickness, gap)
            _describe_mr(dataset, image)
        case _:
            _describe_ultrasound(dataset, image, patient.coloured)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = str(generate_uid(entropy_srcs=["scoutview phantoms"]))
    meta.ImplementationVersionName = "SCOUTVIEW"
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True)


def _common(patient: Patient, number: int) -> Dataset:
    """Patient, study, series and equipment."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = _CLASSES[patient.modality]
    dataset.SOPInstanceUID = patient.uid("instance", number)
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = "20240101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = "120000"
    dataset.AccessionNumber = ""
    dataset.Modality = _MODALITIES[patient.modality]
    dataset.Manufacturer = "scoutview phantoms"
    dataset.ManufacturerModelName = f"generator {GENERATOR_VERSION}"
    dataset.SoftwareVersions = GENERATOR_VERSION
    dataset.DeviceSerialNumber = "1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = dataset.SeriesDescription = _DESCRIPTIONS[patient.modality]
    dataset.PatientName = patient.name
    dataset.PatientID = patient.identifier
    dataset.PatientBirthDate = ""
    dataset.PatientSex = patient.sex
    dataset.PatientAge = f"{patient.age:03d}Y"
    dataset.BodyPartExamined = _BODY_PARTS[patient.modality]
    dataset.StudyInstanceUID = patient.uid("study")
    dataset.SeriesInstanceUID = patient.uid("series")
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = number
    dataset.BurnedInAnnotation = "NO"
    return dataset


def _set_pixels(dataset: Dataset, values: npt.NDArray[np.uint8 | np.uint16], bits: int, photometric: str) -> None:
    """values: unsigned [row, column], or [row, column, 3] for RGB; `bits` are used of 8 or 16."""
    allocated = values.dtype.itemsize * 8
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.BitsAllocated = allocated
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset.add_new("PixelData", "OB" if allocated == 8 else "OW", data + b"\0" * (len(data) % 2))


def _describe_radiograph(dataset: Dataset, image: Slice, inverted: bool) -> None:
    """A DX image for presentation; MONOCHROME1 stores 4095 - value and looks the same."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ViewPosition = "PA"
    dataset.ImageLaterality = "U"
    dataset.PatientOrientation = ["L", "F"]
    dataset.KVP = "110"
    dataset.ImagerPixelSpacing = dataset.PixelSpacing = [_decimal(image.spacing)] * 2
    dataset.PixelSpacingCalibrationType = "FIDUCIAL"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if inverted else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.LossyImageCompression = "00"
    dataset.WindowCenter, dataset.WindowWidth = "2047.5", "4096"
    values = np.clip(np.round(image.pixels), 0, 4095).astype(np.uint16)
    if inverted:
        values = (4095 - values).astype(np.uint16)
    dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    _set_pixels(dataset, values, 12, "MONOCHROME1" if inverted else "MONOCHROME2")


def _describe_volume(dataset: Dataset, patient: Patient, image: Slice, thickness: float, gap: float) -> None:
    """Geometry of an axial slice: the first pixel's centre in mm, rows to the patient's left, columns to the back."""
    half = image.spacing * (image.pixels.shape[0] - 1) / 2
    dataset.FrameOfReferenceUID = patient.uid("frame")
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [_decimal(-half), _decimal(-half), _decimal(image.position)]
    dataset.SliceLocation = _decimal(image.position)
    dataset.PixelSpacing = [_decimal(image.spacing)] * 2
    dataset.SliceThickness = _decimal(thickness)
    dataset.SpacingBetweenSlices = _decimal(gap)


def _describe_ct(dataset: Dataset, image: Slice) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.KVP = "120"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(HU_INTERCEPT), "1", "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "80"
    values = np.clip(np.round(image.pixels) - HU_INTERCEPT, 0, 4095).astype(np.uint16)
    _set_pixels(dataset, values, 12, "MONOCHROME2")


def _describe_mr(dataset: Dataset, image: Slice) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "500", "10", "1"
    dataset.MagneticFieldStrength = "1.5"
    dataset.ContrastBolusAgent = "phantom contrast agent"
    values = np.clip(np.round(image.pixels), 0, 65535).astype(np.uint16)
    _set_pixels(dataset, values, 16, "MONOCHROME2")


def _describe_ultrasound(dataset: Dataset, image: Slice, coloured: bool) -> None:
    """Grey or RGB with equal channels; the region gives the size of a pixel in cm."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.LossyImageCompression = "00"
    region = Dataset()
    region.RegionSpatialFormat = 1
    region.RegionDataType = 1
    region.RegionFlags = 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = (image.pixels.shape[1] - 1, image.pixels.shape[0] - 1)
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = image.spacing / 10.0
    dataset.SequenceOfUltrasoundRegions = [region]
    values = np.clip(np.round(image.pixels), 0, 255).astype(np.uint8)
    if coloured:
        _set_pixels(dataset, np.repeat(values[:, :, None], 3, axis=2), 8, "RGB")
    else:
        _set_pixels(dataset, values, 8, "MONOCHROME2")


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as DICOM's DS wants it."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
