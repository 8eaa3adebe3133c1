"""The elements of a DICOM header that ingest uses, read defensively: archives hold every malformation."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from scoutview.ingest.dicom_stream import open_dicom
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.vocabulary import vendor_in

KEYWORDS: tuple[str | int, ...] = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer",
    "PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "BodyPartExamined", "ViewPosition",
    "BurnedInAnnotation", "PixelSpacing", "ImagerPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "PresentationLUTShape",
    "SpacingBetweenSlices", "SequenceOfUltrasoundRegions",
    *(f"{colour}PaletteColorLookupTable{part}"
      for colour in ("Red", "Green", "Blue", "SegmentedRed", "SegmentedGreen", "SegmentedBlue")
      for part in ("Descriptor", "Data") if not (colour.startswith("Segmented") and part == "Descriptor")),
    *(0x60000010 + 0x20000 * group for group in range(16)),
)  # fmt: skip

BODY_PARTS = frozenset({
    "ABDOMEN", "ABDOMENPELVIS", "ADRENAL", "ANKLE", "AORTA", "ARM", "AXILLA", "BACK", "BLADDER", "BRAIN", "BREAST",
    "BRONCHUS", "BUTTOCK", "CALCANEUS", "CALF", "CAROTID", "CEREBELLUM", "CERVIX", "CHEEK", "CHEST",
    "CHESTABDOMEN", "CHESTABDPELVIS", "CLAVICLE", "COCCYX", "COLON", "CORNEA", "CORONARYARTERY", "CSPINE",
    "CTSPINE", "DUODENUM", "EAR", "ELBOW", "ESOPHAGUS", "EXTREMITY", "EYE", "EYELID", "FACE", "FEMUR", "FINGER",
    "FOOT", "GALLBLADDER", "HAND", "HEAD", "HEADNECK", "HEART", "HIP", "HUMERUS", "ILEUM", "ILIUM", "JAW",
    "JEJUNUM", "KIDNEY", "KNEE", "LARYNX", "LEG", "LIVER", "LSPINE", "LSSPINE", "LUNG", "MANDIBLE", "MAXILLA",
    "MEDIASTINUM", "MOUTH", "NECK", "NOSE", "ORBIT", "OVARY", "PANCREAS", "PAROTID", "PATELLA", "PELVIS", "PENIS",
    "PHARYNX", "PROSTATE", "RECTUM", "RIB", "SCALP", "SCAPULA", "SCLERA", "SCROTUM", "SHOULDER", "SINUS", "SKULL",
    "SPINE", "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "TESTIS", "THIGH", "THUMB", "THYMUS", "THYROID", "TIBIA",
    "TLSPINE", "TMJ", "TOE", "TONGUE", "TRACHEA", "TSPINE", "URETER", "URETHRA", "UTERUS", "VAGINA", "VULVA",
    "WHOLEBODY", "WRIST", "ZYGOMA",
})  # fmt: skip
"""Defined terms of Body Part Examined (DICOM PS3.16 Annex L). Anything else may be free text and is dropped."""

VIEWS = frozenset({
    "AP", "AXIAL", "CC", "FB", "ISO", "LAT", "LATERAL", "LL", "LLD", "LLO", "LM", "LMO", "ML", "MLO", "OBL", "PA",
    "RL", "RLD", "RLO", "SIO", "XCC", "XCCL", "XCCM",
})  # fmt: skip
"""Defined terms of View Position for projection images (PS3.3 C.8.1.2, C.8.7.1, C.8.11.7). Others are dropped."""


def read_header(path: Path, keywords: Sequence[str | int] = KEYWORDS) -> Any:
    """The pydicom dataset without pixels, with the elements of `keywords` only.

    Raises:
        RefusedError: bad_header if the file cannot be parsed; of a deflated file, see `open_dicom`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_dicom(path) as stream:
                return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_tags(tuple(keywords)))
    except RefusedError:
        raise
    except OSError as error:
        if error.errno is None:  # pydicom's own, of elements that do not end
            raise RefusedError("truncated", "the file ends within an element") from error
        raise RefusedError("unreadable", "the file cannot be read") from error
    except Exception as error:
        raise RefusedError("bad_header", f"the elements cannot be parsed ({type(error).__name__})") from error


@lru_cache(maxsize=1024)
def _tag(keyword: str | int) -> Any:
    return Tag(keyword)


@lru_cache
def _tags(keywords: tuple[str | int, ...]) -> list[Any]:
    return [_tag(keyword) for keyword in keywords]


def is_whole(path: Path, nbytes: int) -> bool:
    """Whether a file that may have been cut after `nbytes` holds its header to the end: then the pixels follow it."""
    if path.stat().st_size < nbytes:
        return True
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[])
            tag = stream.read(4)
    except Exception:  # cut or malformed: the whole file tells
        return False
    return tag in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")


def overlaid(header: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a header with other values; the elements of `header` stay as they are.

    Raises:
        RefusedError: bad_header, naming the element, for a value that is none of its kind.
    """
    copy = pydicom.Dataset()
    copy.update(header)
    copy.file_meta = getattr(header, "file_meta", None)
    for keyword, value in values.items():
        # Assigning to an attribute would change the element, which the copy shares with `header`.
        try:
            copy[keyword] = DataElement(Tag(keyword), dictionary_VR(keyword), value, validation_mode=config.IGNORE)
        except Exception as error:  # pydicom converts the value
            raise RefusedError("bad_header", f"{keyword} is malformed") from error
    return copy


def value_of(header: Any, keyword: str) -> Any:
    """The value of an element, or None when it is absent, empty or malformed."""
    tag = _tag(keyword)
    if tag not in header:
        return None
    element = header.get_item(tag)
    try:
        if isinstance(element, DataElement):  # converted before
            value = element.value
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = header[tag].value
    except Exception:  # pydicom converts on access, and raises many kinds of errors on malformed values
        return None
    return None if value is None or value == "" else value


def has_overlay(header: Any) -> bool:
    """Whether there is an overlay plane (PS3.3 C.9.2), beside the pixels or in their unused bits."""
    return any(0x60000010 + 0x20000 * group in header for group in range(16))


def is_present(header: Any, keyword: str) -> bool:
    """Whether the element is there with a value, be it malformed."""
    try:
        element = header.get_item(keyword) if keyword in header else None
        return element is not None and element.value not in (None, b"", "")
    except Exception:  # pydicom raises on a value representation that there is not
        return True


def text_of(header: Any, keyword: str) -> str:
    """A text element, stripped; the first of several values; "" when there is none."""
    value = value_of(header, keyword)
    if isinstance(value, list | pydicom.multival.MultiValue):
        value = value[0] if len(value) else ""
    return str(value or "").strip().strip("\0").strip()


def identifier_of(header: Any, keyword: str) -> str:
    """An identifier exactly as far as it identifies: all its values, stripped."""
    value = value_of(header, keyword)
    return "" if value is None else str(value).strip().strip("\0").strip()


def identity_of(header: Any) -> tuple[str, str]:
    """(SOP Class UID, SOP Instance UID) of the data set, else of the file meta group (PS3.10 7.1)."""
    meta = getattr(header, "file_meta", None) or {}
    return (
        identifier_of(header, "SOPClassUID") or identifier_of(meta, "MediaStorageSOPClassUID"),
        identifier_of(header, "SOPInstanceUID") or identifier_of(meta, "MediaStorageSOPInstanceUID"),
    )


def words_of(header: Any, keyword: str) -> list[str]:
    """A multi-valued code string in upper case."""
    value = value_of(header, keyword)
    if value is None:
        return []
    parts = [value] if isinstance(value, str) else list(value)
    return [str(part).strip().upper() for part in parts]


def integer_of(header: Any, keyword: str, default: int | None = None) -> int:
    """An integer element.

    Raises:
        RefusedError: bad_header, naming the element, when it is malformed, or missing without a default.
    """
    if default is not None and not is_present(header, keyword):
        return default
    try:
        return int(value_of(header, keyword))
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedError("bad_header", f"{keyword} is missing or malformed") from error


def numbers_of(header: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None when the element does not hold that many."""
    value = value_of(header, keyword)
    try:
        parts = list(value) if not isinstance(value, str | int | float) else [value]
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(number) for number in numbers) else None


def number_of(header: Any, keyword: str) -> float | None:
    """The first number of an element; None when it is absent.

    Raises:
        RefusedError: bad_header, naming the element, when it is there and no finite number.
    """
    if not is_present(header, keyword):
        return None
    value = value_of(header, keyword)
    try:
        first = value if isinstance(value, str | int | float) else value[0]
        number = float(first)
    except (TypeError, ValueError, IndexError) as error:
        raise RefusedError("bad_header", f"{keyword} is not a number") from error
    if not math.isfinite(number):
        raise RefusedError("bad_header", f"{keyword} is not finite")
    return number


def spacing_of(header: Any) -> tuple[float, float] | None:
    """(row, column) distance in mm: Pixel Spacing, else Imager Pixel Spacing (PS3.3 10.7.1.1, C.8.11.4)."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        numbers = numbers_of(header, keyword, 2)
        if numbers and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None


def slice_position_of(header: Any) -> float | None:
    """Image Position (Patient) along the slice normal, row x column direction, in mm (PS3.3 C.7.6.2.1.1)."""
    position = numbers_of(header, "ImagePositionPatient", 3)
    direction = numbers_of(header, "ImageOrientationPatient", 6)
    if position is None or direction is None:
        return None
    a, b, c, d, e, f = direction
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(p * n for p, n in zip(position, normal, strict=True))


def body_part_of(header: Any) -> str:
    """A defined term of the standard, or "": free text never leaves the header."""
    term = re.sub(r"[^A-Z]", "", text_of(header, "BodyPartExamined").upper())
    return term if term in BODY_PARTS else ""


def view_of(header: Any) -> str:
    """A defined term of the standard, or ""."""
    term = text_of(header, "ViewPosition").upper()
    return term if term in VIEWS else ""


def manufacturer_of(header: Any) -> str:
    """A known vendor, or ""."""
    return vendor_in(text_of(header, "Manufacturer"))
