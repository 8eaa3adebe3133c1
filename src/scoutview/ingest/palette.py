"""Palette colour -> luma (PS3.3 C.7.9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels import apply_color_lut

from scoutview.images.slabs import row_slabs
from scoutview.ingest.dicom_pixels import luma_of
from scoutview.ingest.refusals import RefusedError


def palette_luma(header: Any, stored: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Luma 0..255 [row, column] of indices [row, column] into the palette of the header.

    Raises:
        RefusedError: palette_color when the palette is missing or malformed.
    """
    try:
        entries = np.asarray(apply_color_lut(stored, header))
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    except Exception as error:  # whatever pydicom raises on a malformed palette
        raise RefusedError("palette_color", f"the palette is missing or malformed ({type(error).__name__})") from error
    highest = 255.0 if bits == 8 and entries.max() <= 255 else 65535.0
    luma = np.empty(stored.shape, np.uint8)
    for slab in row_slabs(*stored.shape):
        luma[slab] = np.rint(luma_of(entries[slab].astype(np.float64)) * (255.0 / highest))
    return luma
