"""The grayscale transformations of DICOM (PS3.3 C.11.1, C.11.2; PS3.4 N.2): modality LUT, padding, VOI LUT.

A window is an affine map and a clip, so windowed values stay integers: counts above the window's lower end.
Rounding the ends to whole counts moves clipped pixels, and no others, by at most half a count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.images.slabs import row_slabs
from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.dicom_pixels import PixelFormat
from scoutview.ingest.refusals import RefusedError


def modality_lut(header: Any, stored: npt.NDArray[Any], calibrated: bool) -> tuple[npt.NDArray[Any], float, float]:
    """(values, slope, offset) with physical = values * slope + offset (PS3.3 C.11.1).

    calibrated: the result must be Hounsfield units.

    Raises:
        RefusedError: not_hu when calibrated and the header does not give HU; bad_header for a malformed element.
    """
    kind = header_of.text_of(header, "RescaleType").upper()
    table = header_of.value_of(header, "ModalityLUTSequence")
    if table:
        if calibrated and header_of.text_of(table[0], "ModalityLUTType").upper() != "HU":
            raise RefusedError("not_hu", "a modality LUT in other units")
        return apply_table(table[0], stored, "ModalityLUTSequence"), 1.0, 0.0
    slope = header_of.number_of(header, "RescaleSlope")
    offset = header_of.number_of(header, "RescaleIntercept")
    if calibrated and (slope is None or offset is None):
        raise RefusedError("not_hu", "RescaleSlope or RescaleIntercept is missing")
    if calibrated and kind not in ("", "HU"):
        raise RefusedError("not_hu", "RescaleType is not HU")
    if slope == 0:
        raise RefusedError("bad_header", "RescaleSlope is 0")
    return stored, 1.0 if slope is None else slope, 0.0 if offset is None else offset


def pad_mask(header: Any, stored: npt.NDArray[Any], form: PixelFormat) -> npt.NDArray[np.bool_] | None:
    """Where stored values are padding, [row, column] (PS3.3 C.7.5.1.1.2), or None when nothing is."""
    first = header_of.value_of(header, "PixelPaddingValue")
    if first is None or form.samples != 1:
        return None
    last = header_of.value_of(header, "PixelPaddingRangeLimit")
    try:
        low = _stored_value(first, form)
        high = low if last is None else _stored_value(last, form)
    except (TypeError, ValueError) as error:
        raise RefusedError("bad_header", "PixelPaddingValue is malformed") from error
    mask = (stored >= min(low, high)) & (stored <= max(low, high))
    if mask.all():
        raise RefusedError("constant", "all pixels are padding")
    return mask if mask.any() else None


def _stored_value(value: Any, form: PixelFormat) -> int:
    """Read 65535 as -1 where pixels are signed, and the other way round: writers confuse US and SS."""
    number = int(value)
    if form.signed and number > form.highest:
        return number - (1 << (16 if number >= 1 << form.bits_stored else form.bits_stored))
    return number + (1 << 16) if not form.signed and number < 0 else number


def replace_padding(values: npt.NDArray[Any], padding: npt.NDArray[np.bool_], highest: bool) -> npt.NDArray[Any]:
    """Give padded pixels the lowest valid value, or the highest where high values are dark."""
    valid = values[~padding]
    filled = values.copy()
    filled[padding] = valid.max() if highest else valid.min()
    return filled


def apply_voi(
    header: Any, values: npt.NDArray[Any], slope: float, offset: float, invert: bool
) -> npt.NDArray[Any] | None:
    """The first VOI LUT, else the first window (PS3.3 C.11.2), then inversion within its output range.

    Returns values [row, column], dark to bright from 0; None when the header gives neither. slope > 0.

    Raises:
        RefusedError: bad_header for a malformed LUT or window.
    """
    table = header_of.value_of(header, "VOILUTSequence")
    if table:
        physical = values
        if slope != 1 or offset != 0:
            physical = np.rint(values * slope + offset).astype(np.int64)
        shown = apply_table(table[0], physical, "VOILUTSequence")
        entries = _table_of(table[0], "VOILUTSequence")[0]
        low, high = int(entries.min()), int(entries.max())
        return high - shown if invert else shown - low
    center = header_of.number_of(header, "WindowCenter")
    width = header_of.number_of(header, "WindowWidth")
    if center is None or width is None:
        return None
    function = header_of.text_of(header, "VOILUTFunction").upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise RefusedError("bad_header", "VOILUTFunction is none of the defined terms")
    if width <= (1 if function == "LINEAR" else 0):
        raise RefusedError("bad_header", "WindowWidth is too small")
    if function == "SIGMOID":
        curve = np.empty(values.shape)
        for slab in row_slabs(*values.shape):
            argument = np.clip(-4.0 * (values[slab] * slope + offset - center) / width, -700, 700)
            curve[slab] = 1.0 / (1.0 + np.exp(argument))
        return np.subtract(1.0, curve, out=curve) if invert else curve
    if function == "LINEAR":  # PS3.3 C.11.2.1.2.1: the centre lies half a count lower, the width counts both ends
        center, width = center - 0.5, width - 1.0
    low_count = (center - width / 2 - offset) / slope
    high_count = (center + width / 2 - offset) / slope
    if not np.issubdtype(values.dtype, np.integer) or high_count - low_count < 2:
        raise RefusedError("bad_header", "WindowWidth is less than two stored values")
    if max(abs(low_count), abs(high_count)) > 2**53:
        raise RefusedError("bad_header", "WindowCenter or WindowWidth is out of range")
    bottom, top = int(np.ceil(low_count - 0.5)), int(np.floor(high_count + 0.5))
    counts = np.empty(values.shape, np.int32 if top - bottom < 2**31 else np.int64)
    for slab in row_slabs(*values.shape):
        clipped = np.clip(values[slab].astype(np.int64), bottom, top)
        counts[slab] = top - clipped if invert else clipped - bottom
    return counts


def window_of(header: Any) -> str:
    """What `apply_voi` applies, for the record: "lut", or function, centre and width in modality units."""
    if header_of.value_of(header, "VOILUTSequence"):
        return "lut"
    center = header_of.number_of(header, "WindowCenter")
    width = header_of.number_of(header, "WindowWidth")
    function = header_of.text_of(header, "VOILUTFunction").lower() or "linear"
    return f"{function} {center:g} {width:g}"


def apply_table(item: Any, values: npt.NDArray[Any], keyword: str) -> npt.NDArray[Any]:
    """Look values up in a LUT item (PS3.3 C.11.1.1): outside, the first or the last entry."""
    entries, first = _table_of(item, keyword)
    mapped = np.empty(values.shape, entries.dtype)
    for slab in row_slabs(*values.shape):
        index = np.clip(np.rint(values[slab]).astype(np.int64) - first, 0, entries.size - 1)
        mapped[slab] = entries[index]
    return mapped


def _table_of(item: Any, keyword: str) -> tuple[npt.NDArray[np.int32], int]:
    """(entries, first value mapped) of a LUT Descriptor and LUT Data."""
    try:
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        data = item.LUTData
        if isinstance(data, bytes):
            data = np.frombuffer(data, "<u2" if len(data) >= 2 * (count or 65536) else "u1")
        entries = np.atleast_1d(np.asarray(data)).astype(np.int32)
    except Exception as error:  # whatever pydicom raises on a malformed item
        raise RefusedError("bad_header", f"{keyword} is malformed") from error
    count = count or 65536
    if count == entries.size * 2 and bits <= 8:
        entries = entries.astype("<u2").view("u1").astype(np.int32)
    if entries.size < count or count < 2:
        raise RefusedError("bad_header", f"{keyword} holds fewer entries than it says")
    return entries[:count] & 0xFFFF, first
