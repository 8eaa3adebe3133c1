"""Pictures for a page of many: small, as data URIs, lossless where the image itself is small."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST = 256
"""px of a thumbnail; about twice what the page shows it at."""
LOSSLESS = 96
"""px up to which a picture keeps its own pixels."""
_QUALITY = 80


def thumbnail(picture: NDArray[Any]) -> str:
    """A picture [row, column] in [0, 1] as a data URI; values outside are clipped, NaN is black.

    One of up to 96 px is a PNG of its own pixels; a larger one becomes a JPEG of at most 256 px.
    """
    grey = np.nan_to_num(np.asarray(picture, dtype=np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    tile = Image.fromarray((np.clip(grey, 0, 1) * 255).round().astype(np.uint8))
    buffer = io.BytesIO()
    if max(tile.size) <= LOSSLESS:
        tile.save(buffer, format="PNG", optimize=True)
        return _uri("png", buffer)
    scale = min(1.0, LONGEST / max(tile.size))
    size = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
    tile.resize(size, Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=_QUALITY)
    return _uri("jpeg", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
