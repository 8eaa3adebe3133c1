"""A DICOM file -> its images, or the reason why not (PS3.3 C.7.6, C.11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.images import Image, Modality
from scoutview.images.types import to_int16
from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.calibration import extent_of, not_hounsfield
from scoutview.ingest.dicom_kind import format_of, modality_of
from scoutview.ingest.dicom_pixels import PixelFormat, decode_dataset, decode_frame
from scoutview.ingest.frames import open_frames
from scoutview.ingest.functional_groups import GROUPS, frame_headers
from scoutview.ingest.grayscale import apply_voi, modality_lut, pad_mask, replace_padding, window_of
from scoutview.ingest.limits import check_saturation, check_varies
from scoutview.ingest.mosaic import is_mosaic, tiles_of
from scoutview.ingest.palette import palette_luma
from scoutview.ingest.planes import slice_header
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules
from scoutview.ingest.series import Place, places_of
from scoutview.ingest.stacks import assemble
from scoutview.ingest.ultrasound import mask_text

CINE_FRAMES = 8
"""Of a film, evenly spaced; its other frames are much the same."""
_ENHANCED = tuple(f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in ("2.1", "2.2", "4.1", "4.4"))

Indexed = tuple[str, Image]


def read_dicom(path: Path, rules: Rules, place: Place | None = None) -> Iterator[Indexed]:
    """(index within the file, image): one of a plain file, the slices of an enhanced one or a mosaic, frames of a film.

    X-ray: the values that the first VOI LUT or window shows, dark to bright, as counts above the window's lower
    end. CT: stored values with the slope and offset that give HU. MR: stored values with slope and offset.
    Ultrasound: stored values or luma. place: of the slice in a volume of several files, whose calibration is judged
    by the whole.

    Raises:
        RefusedError: with the reason code; the detail names elements and never repeats a value of identity.
    """
    header = header_of.read_header(path)
    modality = modality_of(header)
    form = format_of(header, modality)
    sop_class, instance = header_of.identity_of(header)
    if not instance:
        raise RefusedError("bad_header", "SOPInstanceUID is missing or malformed")
    if form.frames > 1 and sop_class in _ENHANCED:
        yield from _enhanced(path, header, form, modality, rules)
    elif form.frames > 1 and modality in ("ct", "mr"):
        raise RefusedError("multi_frame", "several frames in an object whose class has one")
    elif form.frames > 1:
        yield from _film(path, header, form, modality, rules)
    elif is_mosaic(header):
        yield from _mosaic(path, header, form, modality, rules)
    else:
        image = _image(header, decode_frame(path, form), form, modality, rules, place)
        check_varies(image.pixels)
        if modality == "ct" and place is None:
            _check_calibrated([extent_of(image)], rules)
        yield "", image


def _enhanced(path: Path, header: Any, form: PixelFormat, modality: Modality, rules: Rules) -> Iterator[Indexed]:
    """The volumes of an enhanced CT or MR, slice by slice."""
    groups = header_of.read_header(path, (*header_of.KEYWORDS, *GROUPS))
    headers = list(frame_headers(groups, form.frames))
    source = open_frames(path, form.frames, form.frame_bytes)
    yield from _slices(
        header, headers, lambda number: decode_dataset(source.dataset(number), form), form, modality, rules
    )


def _slices(
    header: Any,
    headers: list[Any],
    decode: Callable[[int], npt.NDArray[Any]],
    form: PixelFormat,
    modality: Modality,
    rules: Rules,
) -> Iterator[Indexed]:
    """The slices of a file, volume by volume; decode: the stored values of slice `number`."""
    ordered, places = _assembled(header, headers, rules)
    extents = []
    for number in ordered:
        image = _image(headers[number], decode(number), form, modality, rules, places.get(number))
        if modality == "ct":
            extents.append(extent_of(image))
        yield str(number), image
    if extents:
        _check_calibrated(extents, rules)


def _assembled(header: Any, headers: list[Any], rules: Rules) -> tuple[list[int], dict[int, Place]]:
    """(frames in the order of their volumes, place of each frame that is in one).

    Raises:
        RefusedError: gap, duplicate_position or shifted_slices; a file is taken whole or not at all.
    """
    slices = [slice_header(frame) for frame in headers]
    stacks, loose = assemble(slices, rules.gaps == "allow")
    _, instance = header_of.identity_of(header)
    ordered: list[int] = []
    places: dict[int, Place] = {}
    for stack in stacks:
        if stack.reason:
            raise RefusedError(stack.reason, stack.detail)
        name = f"{instance}\0{stack.members[0]}"
        ordered += stack.members
        places.update(zip(stack.members, places_of(slices, stack, name), strict=True))
    return [*ordered, *loose], places


def _mosaic(path: Path, header: Any, form: PixelFormat, modality: Modality, rules: Rules) -> Iterator[Indexed]:
    """The slices of a Siemens mosaic."""
    headers, tile = tiles_of(path, header, form)
    stored = decode_frame(path, form)
    yield from _slices(header, headers, lambda number: tile(stored, number), form, modality, rules)


def _film(path: Path, header: Any, form: PixelFormat, modality: Modality, rules: Rules) -> Iterator[Indexed]:
    """Evenly spaced frames of a film."""
    source = open_frames(path, form.frames, form.frame_bytes)
    count = min(CINE_FRAMES, form.frames)
    for place in range(count):
        number = int((place + 0.5) * form.frames / count)
        stored = decode_dataset(source.dataset(number), form)
        yield str(number), _image(header, stored, form, modality, rules, None, ("cine",))


def _check_calibrated(extents: list[tuple[float, bool]], rules: Rules) -> None:
    """Refuse CT that cannot be in Hounsfield units.

    Raises:
        RefusedError: not_hu.
    """
    why = _objection(extents)
    if why and rules.air == "required":
        raise RefusedError("not_hu", why)


def _objection(extents: list[tuple[float, bool]]) -> str:
    return not_hounsfield([lowest for lowest, _ in extents], [tissue for _, tissue in extents])


def _image(
    header: Any,
    stored: npt.NDArray[Any],
    form: PixelFormat,
    modality: Modality,
    rules: Rules,
    place: Place | None,
    flags: tuple[str, ...] = (),
) -> Image:
    """The image of a frame from its header and its stored values [row, column]."""
    if modality == "us":
        if form.photometric == "PALETTE COLOR":
            stored = palette_luma(header, stored)
        stored, text = mask_text(header, stored, rules)
        flags = (*flags, *text)
    if modality == "xray":
        flags = (*flags, *check_saturation(stored))
    values, window, inverted = _values_of(header, stored, form, modality)
    study = header_of.identifier_of(header, "StudyInstanceUID")
    series = header_of.identifier_of(header, "SeriesInstanceUID")
    image = Image(
        pixels=values[0],
        modality=modality,
        slope=values[1],
        offset=values[2],
        shifted=values[3],
        units="HU" if modality == "ct" else "",
        spacing=header_of.spacing_of(header),
        body_part=header_of.body_part_of(header),
        view=header_of.view_of(header),
        patient=_patient_of(header, study, series),
        study=study,
        series=series,
        instance=header_of.identity_of(header)[1],
        slice_index=place.index if place else None,
        slice_position=_height_of(header, modality, place),
        stack=place.stack if place else "",
        slice_spacing=place.spacing if place else None,
        affine=place.affine if place else None,
        window=window,
        flags=tuple(
            sorted({*flags, *_flags_of(header, form), *(place.flags if place else ()), *(["inverted"] * inverted)})
        ),
        source_format="dicom",
        manufacturer=header_of.manufacturer_of(header),
    )
    if modality == "ct" and rules.air == "optional" and _objection([extent_of(image)]):
        return replace(image, flags=tuple(sorted({*image.flags, "no_air"})))
    return image


def _height_of(header: Any, modality: Modality, place: Place | None) -> float | None:
    if place is not None:
        return place.height
    return header_of.slice_position_of(header) if modality in ("ct", "mr") else None


def _flags_of(header: Any, form: PixelFormat) -> list[str]:
    """What the header says of the pixels that the values do not show."""
    flags = [] if header_of.text_of(header, "BurnedInAnnotation") else ["burned_in_unknown"]
    return [*flags, "overlay"] if header_of.has_overlay(header) else flags


def _patient_of(header: Any, study: str, series: str) -> str:
    """Patient ID; without one, the images of a study, series or frame of reference are one patient."""
    patient = header_of.identifier_of(header, "PatientID")
    if patient:
        issuer = header_of.identifier_of(header, "IssuerOfPatientID")
        return f"{patient}\0{issuer}" if issuer else patient
    frame = header_of.identifier_of(header, "FrameOfReferenceUID")
    known = [f"{kind}\0{uid}" for kind, uid in (("study", study), ("series", series), ("frame", frame)) if uid]
    return known[0] if known else ""


def _values_of(
    header: Any, stored: npt.NDArray[Any], form: PixelFormat, modality: Modality
) -> tuple[tuple[npt.NDArray[np.int16], float, float, bool], str, bool]:
    """((pixels, slope, offset, shifted), window, inverted) after the grayscale transformations, in their order."""
    invert = modality != "ct" and (
        form.photometric == "MONOCHROME1" or header_of.text_of(header, "PresentationLUTShape").upper() == "INVERSE"
    )
    padding = pad_mask(header, stored, form)
    values, slope, offset = modality_lut(header, stored, calibrated=modality == "ct")
    if slope < 0 and modality != "ct":
        values, slope = np.negative(values, dtype=np.int64), -slope
        lowest, highest = -form.highest, -form.lowest
    else:
        lowest, highest = form.lowest, form.highest
    if padding is not None:
        values = replace_padding(values, padding, highest=invert)
    if modality == "xray":
        shown = apply_voi(header, values, slope, offset, invert=invert)
        if shown is not None:
            return to_int16(shown), window_of(header), invert
    if invert:
        top = max(highest, int(values.max())) + min(lowest, int(values.min()))
        values = np.subtract(top, values, dtype=np.int64)
    pixels, step, base, shifted = to_int16(values)
    return (pixels, slope * step, slope * base + offset, shifted), "", invert
