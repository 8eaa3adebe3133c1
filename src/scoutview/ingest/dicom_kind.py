"""What a DICOM file shows, and how its pixels are written; refused before anything is decoded (PS3.3 C.7.6.3)."""

from __future__ import annotations

from typing import Any

from scoutview.images import Modality
from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.dicom_pixels import PixelFormat
from scoutview.ingest.limits import check_size
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.vocabulary import known_modality, registered

_XRAY = ("CR", "DX", "RG", "MG", "IO", "PX", "RF", "XA")
_MODALITIES: dict[str, Modality] = {**dict.fromkeys(_XRAY, "xray"), "CT": "ct", "MR": "mr", "US": "us"}

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE = ("7", "7.1", "7.2", "7.3", "7.4")
_CLASSES: dict[str, Modality | None] = {
    **dict.fromkeys(
        ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1", "13.1.2",
         "13.1.3"), "xray"
    ),
    **dict.fromkeys(("2", "2.1", "2.2"), "ct"),
    **dict.fromkeys(("4", "4.1", "4.3", "4.4"), "mr"),
    **dict.fromkeys(("6", "6.1", "6.2", "3", "3.1"), "us"),
}  # fmt: skip


def modality_of(header: Any) -> Modality:
    """What Modality, SOP Class and Image Type agree on (PS3.3 C.7.3.1.1.1, PS3.4 B.5)."""
    said = header_of.text_of(header, "Modality").upper()
    sop_class, _ = header_of.identity_of(header)
    if not sop_class:
        raise RefusedError("bad_header", "SOPClassUID is missing or malformed")
    suffix = sop_class.removeprefix(_STORAGE)
    secondary_capture = suffix in _SECONDARY_CAPTURE
    by_class = _CLASSES.get(suffix)
    if by_class is None and not secondary_capture:
        raise RefusedError("not_an_image_class", f"SOP Class {registered(sop_class)}")
    if not said:
        raise RefusedError("bad_header", "Modality is missing or malformed")
    modality = _MODALITIES.get(said)
    if modality is None:
        known = known_modality(said)
        if by_class is not None:
            raise RefusedError("modality_conflict", f"Modality {known}, SOP Class for {by_class}")
        raise RefusedError("not_an_image_class", f"Modality {known}")
    if secondary_capture:
        # Digitised films and many public radiographs are secondary captures; other captures are screens.
        if modality != "xray":
            raise RefusedError("secondary_capture", f"Modality {said} as a secondary capture")
    elif by_class != modality:
        raise RefusedError("modality_conflict", f"Modality {said}, SOP Class for {by_class}")
    kinds = header_of.words_of(header, "ImageType")
    if "LOCALIZER" in kinds:
        raise RefusedError("localizer", "LOCALIZER in ImageType")
    if any(kind.startswith(("SCREEN", "DOSE")) for kind in kinds):
        raise RefusedError("secondary_capture", "a screen or dose page by ImageType")
    if header_of.text_of(header, "BurnedInAnnotation").upper() == "YES":
        raise RefusedError("burned_in", "BurnedInAnnotation is YES")
    return modality


def format_of(header: Any, modality: Modality) -> PixelFormat:
    """The Image Pixel module, checked before anything is decoded."""
    meta = getattr(header, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if not syntax:
        raise RefusedError("bad_header", "TransferSyntaxUID is missing")
    if not header_of.is_present(header, "Rows") and not header_of.is_present(header, "BitsAllocated"):
        raise RefusedError("no_pixels", "there is no Image Pixel module")
    frames = header_of.integer_of(header, "NumberOfFrames", 1)
    if frames < 1:
        raise RefusedError("bad_header", "NumberOfFrames is less than 1")
    rows, columns = header_of.integer_of(header, "Rows"), header_of.integer_of(header, "Columns")
    check_size(rows, columns)
    samples = header_of.integer_of(header, "SamplesPerPixel", 1)
    photometric = header_of.text_of(header, "PhotometricInterpretation").upper()
    if not photometric:
        raise RefusedError("bad_header", "PhotometricInterpretation is missing or malformed")
    palette = photometric == "PALETTE COLOR"
    grey = photometric in ("MONOCHROME1", "MONOCHROME2") or palette
    if (samples == 1) != grey or samples not in (1, 3):
        raise RefusedError("bad_header", "SamplesPerPixel and PhotometricInterpretation contradict each other")
    if not grey and photometric not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
        raise RefusedError("color", "a colour space that this version does not read")
    if (palette or not grey) and modality != "us":
        raise RefusedError("color", "a colour image that is not ultrasound")
    allocated = header_of.integer_of(header, "BitsAllocated")
    bits = header_of.integer_of(header, "BitsStored", allocated)
    high = header_of.integer_of(header, "HighBit", bits - 1)
    representation = header_of.integer_of(header, "PixelRepresentation")
    if allocated not in (8, 16, 32) or (allocated != 8 and not grey) or (allocated == 32 and palette):
        raise RefusedError("bits", f"{allocated} bits allocated")
    if not (1 < bits <= allocated and bits - 1 <= high < allocated and representation in (0, 1)):
        raise RefusedError("bad_header", "BitsStored, HighBit or PixelRepresentation is out of range")
    signed = representation == 1 and grey
    return PixelFormat(syntax, rows, columns, samples, photometric, allocated, bits, high, signed, frames)
