"""Text beside an ultrasound image: what lies outside the declared regions is blackened (PS3.3 C.8.5.5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules

REGIONS = "SequenceOfUltrasoundRegions"
_CORNERS = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")


def mask_text(header: Any, values: npt.NDArray[Any], rules: Rules) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """(values [row, column] with 0 outside the regions, flags).

    Scanners write the patient's name beside the image. Text over the image itself is not found.

    Raises:
        RefusedError: text_unknown when no region is declared and the rules refuse that.
    """
    inside = _inside(header, values.shape)
    if inside is None:
        if rules.ultrasound_text == "refuse":
            raise RefusedError("text_unknown", "no ultrasound region is declared")
        return values, ("text_unknown",)
    if not values[~inside].any():
        return values, ()
    return np.where(inside, values, 0).astype(values.dtype), ("text_masked",)


def _inside(header: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """Where at least one declared region lies; None when none is declared, or they are malformed."""
    mask = np.zeros(shape, dtype=np.bool_)
    for item in header_of.value_of(header, REGIONS) or []:
        corners = [header_of.numbers_of(item, corner, 1) for corner in _CORNERS]
        if any(corner is None for corner in corners):
            return None
        left, top, right, bottom = (int(corner[0]) for corner in corners if corner is not None)
        if left < 0 or top < 0 or right < left or bottom < top:
            return None
        mask[top : bottom + 1, left : right + 1] = True
    return mask if mask.any() else None
