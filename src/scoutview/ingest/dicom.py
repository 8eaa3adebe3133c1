"""One DICOM file -> one image, or the reason why not (PS3.3 C.7.6, C.11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.images import Image, Modality
from scoutview.images.types import to_int16
from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.dicom_pixels import PixelFormat, decode_frame
from scoutview.ingest.grayscale import apply_voi, modality_lut, pad_mask, replace_padding
from scoutview.ingest.limits import check_size, check_varies
from scoutview.ingest.refusals import RefusedError

AIR = -500.0
"""HU; a CT slice that holds nothing below it has lost its calibration, for every slice holds air."""

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


def read_dicom(path: Path) -> list[Image]:
    """The image of a single-frame DICOM file.

    X-ray: the values that the first VOI LUT or window shows, dark to bright, as counts above the window's lower
    end. CT: stored values with the slope and offset that give HU. MR: stored values with slope and offset.
    Ultrasound: stored values or luma.

    Raises:
        RefusedError: with the reason code; the detail names elements and never repeats a value of identity.
    """
    header = header_of.read_header(path)
    modality = _modality_of(header)
    form = _format_of(header, modality)
    _, instance = header_of.identity_of(header)
    if not instance:
        raise RefusedError("bad_header", "SOPInstanceUID is missing or malformed")
    stored = decode_frame(path, form)
    pixels, slope, offset, shifted = _values_of(header, stored, form, modality)
    check_varies(pixels)
    if modality == "ct" and float(pixels.min()) * slope + offset > AIR:
        raise RefusedError("not_hu", f"no value below {AIR:g} HU, where every CT slice holds air")
    study = header_of.identifier_of(header, "StudyInstanceUID")
    series = header_of.identifier_of(header, "SeriesInstanceUID")
    return [
        Image(
            pixels=pixels,
            modality=modality,
            slope=slope,
            offset=offset,
            units="HU" if modality == "ct" else "",
            shifted=shifted,
            spacing=header_of.spacing_of(header),
            body_part=header_of.body_part_of(header),
            view=header_of.view_of(header),
            patient=_patient_of(header, study, series),
            study=study,
            series=series,
            instance=instance,
            slice_position=header_of.slice_position_of(header) if modality in ("ct", "mr") else None,
            source_format="dicom",
            manufacturer=header_of.manufacturer_of(header),
        )
    ]


def _patient_of(header: Any, study: str, series: str) -> str:
    """Patient ID; without one, the images of a study, series or frame of reference are one patient."""
    patient = header_of.identifier_of(header, "PatientID")
    if patient:
        issuer = header_of.identifier_of(header, "IssuerOfPatientID")
        return f"{patient}\0{issuer}" if issuer else patient
    frame = header_of.identifier_of(header, "FrameOfReferenceUID")
    known = [f"{kind}\0{uid}" for kind, uid in (("study", study), ("series", series), ("frame", frame)) if uid]
    return known[0] if known else ""


def _modality_of(header: Any) -> Modality:
    """What Modality, SOP Class and Image Type agree on (PS3.3 C.7.3.1.1.1, PS3.4 B.5)."""
    said = header_of.text_of(header, "Modality").upper()
    sop_class, _ = header_of.identity_of(header)
    if not sop_class:
        raise RefusedError("bad_header", "SOPClassUID is missing or malformed")
    suffix = sop_class.removeprefix(_STORAGE)
    secondary_capture = suffix in _SECONDARY_CAPTURE
    by_class = _CLASSES.get(suffix)
    if by_class is None and not secondary_capture:
        raise RefusedError("not_an_image_class", f"SOP Class {sop_class}")
    if not said:
        raise RefusedError("bad_header", "Modality is missing or malformed")
    modality = _MODALITIES.get(said)
    if modality is None:
        known = said if said.isalpha() and len(said) <= 16 else "malformed"
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


def _format_of(header: Any, modality: Modality) -> PixelFormat:
    """The Image Pixel module, checked before anything is decoded."""
    meta = getattr(header, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if not syntax:
        raise RefusedError("bad_header", "TransferSyntaxUID is missing")
    if not header_of.is_present(header, "Rows") and not header_of.is_present(header, "BitsAllocated"):
        raise RefusedError("no_pixels", "there is no Image Pixel module")
    if header_of.integer_of(header, "NumberOfFrames", 1) > 1:
        raise RefusedError("multi_frame", "more than one frame")
    rows, columns = header_of.integer_of(header, "Rows"), header_of.integer_of(header, "Columns")
    check_size(rows, columns)
    samples = header_of.integer_of(header, "SamplesPerPixel", 1)
    photometric = header_of.text_of(header, "PhotometricInterpretation").upper()
    if not photometric:
        raise RefusedError("bad_header", "PhotometricInterpretation is missing or malformed")
    if photometric == "PALETTE COLOR":
        raise RefusedError("palette_color", "colours by palette")
    grey = photometric in ("MONOCHROME1", "MONOCHROME2")
    if (samples == 1) != grey or samples not in (1, 3):
        raise RefusedError("bad_header", "SamplesPerPixel and PhotometricInterpretation contradict each other")
    if not grey and photometric not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
        raise RefusedError("color", "a colour space that this version does not read")
    if not grey and modality != "us":
        raise RefusedError("color", "a colour image that is not ultrasound")
    allocated = header_of.integer_of(header, "BitsAllocated")
    bits = header_of.integer_of(header, "BitsStored", allocated)
    high = header_of.integer_of(header, "HighBit", bits - 1)
    representation = header_of.integer_of(header, "PixelRepresentation", 0)
    if allocated not in (8, 16) or (not grey and allocated != 8):
        raise RefusedError("bits", f"{allocated} bits allocated")
    if not (1 < bits <= allocated and bits - 1 <= high < allocated and representation in (0, 1)):
        raise RefusedError("bad_header", "BitsStored, HighBit or PixelRepresentation is out of range")
    signed = representation == 1 and grey
    return PixelFormat(syntax, rows, columns, samples, photometric, allocated, bits, high, signed)


def _values_of(
    header: Any, stored: npt.NDArray[Any], form: PixelFormat, modality: Modality
) -> tuple[npt.NDArray[np.int16], float, float, bool]:
    """(pixels, slope, offset, shifted) after the grayscale transformations, in the standard's order."""
    invert = modality != "ct" and (
        form.photometric == "MONOCHROME1" or header_of.text_of(header, "PresentationLUTShape").upper() == "INVERSE"
    )
    padding = pad_mask(header, stored, form)
    values, slope, offset = modality_lut(header, stored, calibrated=modality == "ct")
    if slope < 0 and modality != "ct":
        values, slope = -values.astype(np.int32), -slope
        lowest, highest = -form.highest, -form.lowest
    else:
        lowest, highest = form.lowest, form.highest
    if padding is not None:
        values = replace_padding(values, padding, highest=invert)
    if modality == "xray":
        shown = apply_voi(header, values, slope, offset, invert=invert)
        if shown is not None:
            return to_int16(shown)
    if invert:
        top = max(highest, int(values.max())) + min(lowest, int(values.min()))
        values = top - values.astype(np.int32)
    pixels, step, base, shifted = to_int16(values)
    return pixels, slope * step, slope * base + offset, shifted
