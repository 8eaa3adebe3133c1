"""Bounds on every image, whatever its format."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.images.types import LARGEST_AREA
from scoutview.ingest.refusals import RefusedError

SMALLEST_SIDE = 16
"""px; four halvings of a smaller image leave nothing."""
LARGEST_FILE = 2**33
"""Bytes of the values of one file, inflated."""

SATURATED, FLAGGED = 0.95, 0.6
"""Share of the pixels at the lowest or highest value from which a radiograph is refused, and flagged."""


def check_size(rows: int, columns: int) -> None:
    """Refuse an image by its size, before it is decoded.

    Raises:
        RefusedError: too_small or too_large.
    """
    if min(rows, columns) < SMALLEST_SIDE:
        raise RefusedError("too_small", f"{rows} x {columns} px")
    if rows * columns > LARGEST_AREA:
        raise RefusedError("too_large", f"{rows} x {columns} px, at most 2^25 are taken")


def check_inflated(nbytes: int) -> None:
    """Refuse a file by the bytes that its header announces, before they are inflated or read.

    Raises:
        RefusedError: too_large.
    """
    if nbytes > LARGEST_FILE:
        raise RefusedError("too_large", f"{nbytes} bytes of values, at most 2^33 are taken")


def check_varies(pixels: npt.NDArray[Any]) -> None:
    """Refuse an image all of whose pixels are equal.

    Raises:
        RefusedError: constant.
    """
    if pixels.min() == pixels.max():
        raise RefusedError("constant", "all pixels have one value")


def check_saturation(stored: npt.NDArray[Any]) -> tuple[str, ...]:
    """The flag of a radiograph many of whose stored values are the extremes, or nothing.

    Raises:
        RefusedError: saturated when hardly any other value is left.
    """
    low, high = stored.min(), stored.max()
    if low == high:
        return ()
    share = (np.count_nonzero(stored == low) + np.count_nonzero(stored == high)) / stored.size
    if share > SATURATED:
        raise RefusedError("saturated", f"{share:.0%} of the pixels have the lowest or the highest value")
    return ("saturated",) if share > FLAGGED else ()
