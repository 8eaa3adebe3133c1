"""Whether CT values can be Hounsfield units, from what every patient holds: air around the body, and tissue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scoutview.images import Image

AIR = -500.0
"""HU; CT that holds nothing below it has lost its calibration (a missing intercept, a wrapped sign)."""
TISSUE = -300.0
"""HU; CT with less than 0.5% of its pixels above it was shifted down (an intercept applied twice)."""
TISSUE_SHARE = 0.005


def not_hounsfield(lowest: Sequence[float], tissue: Sequence[bool]) -> str:
    """Why an image, or the slices of a volume together, are not in HU; "" when they may be.

    lowest: smallest value of each slice in HU; tissue: whether 0.5% of its pixels lie above TISSUE.
    """
    if not any(tissue):
        return f"hardly any value above {TISSUE:g} HU, where all tissue lies"
    if min(lowest) > AIR:
        return f"no value below {AIR:g} HU, where every CT holds air"
    return ""


def extent_of(image: Image) -> tuple[float, bool]:
    """(lowest value in HU, whether it holds tissue) of a CT image; slope > 0."""
    lowest = float(image.pixels.min()) * image.slope + image.offset
    above = np.count_nonzero(image.pixels > (TISSUE - image.offset) / image.slope)
    return lowest, bool(above >= TISSUE_SHARE * image.pixels.size)
