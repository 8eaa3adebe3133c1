"""Masks in picture files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from scoutview.errors import UsageError


def read_bitmap(path: Path) -> npt.NDArray[np.bool_]:
    """Where a picture is not black, [row, column]; transparency is not looked at.

    Raises:
        UsageError: it is no picture that can be read.
    """
    try:
        with Pillow.open(path, formats=("PNG", "TIFF", "JPEG", "BMP", "GIF")) as picture:
            if picture.mode in ("P", "PA", "LA", "RGBA"):
                picture = picture.convert("RGB")  # of a palette the colours count, not their numbers
            values = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise UsageError(f"the mask {path} cannot be read ({error}): restore it, or leave it out") from error
    return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0)
