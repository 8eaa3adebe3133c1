"""PNG, JPEG and TIFF -> one image. Resolution tags are ignored: they describe a print, not a patient."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from scoutview.images import Image, Modality
from scoutview.images.types import to_int16
from scoutview.ingest.dicom_pixels import luma_of
from scoutview.ingest.limits import LARGEST_AREA, check_size, check_varies
from scoutview.ingest.refusals import RefusedError

GREY_TOLERANCE = 2
"""Levels by which the channels of a grey picture that was saved in colour may differ."""

_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262
_GREY_MODES = ("L", "I;16", "I;16B", "I;16L", "I", "F")


def read_picture(path: Path, modality: Modality) -> Image:
    """The image of a PNG, JPEG or TIFF file; grey, or luma where the modality is "us".

    An EXIF orientation is applied, so that the image is stored as every viewer shows it.

    Raises:
        RefusedError: with the reason code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warning of large images: the limit is ours
            Pillow.MAX_IMAGE_PIXELS = LARGEST_AREA
            values = _values(path, modality)
    except Pillow.DecompressionBombError as error:
        raise RefusedError("too_large", "more than 2^25 pixels") from error
    except UnidentifiedImageError as error:
        raise RefusedError("decode_error", "Pillow does not know this variant") from error
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
        raise RefusedError("decode_error", f"damaged ({type(error).__name__})") from error
    except OSError as error:
        if error.errno is not None:
            raise RefusedError("unreadable", "the file cannot be read") from error
        if "truncated" in str(error).lower():
            raise RefusedError("truncated", "the pixels end early") from error
        raise RefusedError("decode_error", "damaged pixels") from error
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise RefusedError("not_finite", "NaN or infinity")
    check_varies(values)
    if values.dtype.kind != "f" and _is_binary(values):
        raise RefusedError("label_map", "two grey levels only")
    pixels, slope, offset, shifted = to_int16(values)
    return Image(pixels=pixels, modality=modality, slope=slope, offset=offset, shifted=shifted)


def _values(path: Path, modality: Modality) -> npt.NDArray[Any]:
    with Pillow.open(path, formats=("PNG", "JPEG", "TIFF", "MPO")) as picture:
        check_size(picture.height, picture.width)
        if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
            raise RefusedError("multi_frame", "several pages or frames")
        if picture.mode == "1":
            raise RefusedError("label_map", "one bit per pixel")
        if picture.format == "PNG" and _is_deep_colour(path):
            return _grey(np.asarray(imagecodecs.png_decode(path.read_bytes())), modality)
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA")
        if picture.mode not in (*_GREY_MODES, "LA", "RGB", "RGBA", "RGBX"):
            raise RefusedError("color", f"colour mode {picture.mode}")
        inverted = picture.format == "TIFF" and picture.mode.startswith(("I;16", "I", "F"))
        inverted = inverted and picture.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
        orientation = picture.getexif().get(_ORIENTATION, 1)
        values = np.asarray(picture if orientation == 1 else ImageOps.exif_transpose(picture))
    if inverted:  # white is zero; Pillow turns 8-bit pictures itself, deeper ones it leaves
        if values.dtype.kind == "f":
            raise RefusedError("color", "floating point values where zero is white")
        values = 65535 - values.astype(np.int64)
    return _grey(values, modality)


def _is_deep_colour(path: Path) -> bool:
    """A PNG of 16 bits per sample that is not plain grey: Pillow would cut it to 8 bits."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return len(head) == 26 and head[24] == 16 and head[25] != 0


def _grey(values: npt.NDArray[Any], modality: Modality) -> npt.NDArray[Any]:
    """[row, column] from grey, or from 2 to 4 channels whose last is alpha when even in number."""
    if values.ndim == 2:
        return values
    channels = values.shape[2]
    if channels in (2, 4):
        alpha = values[..., -1]
        if alpha.min() != alpha.max():
            raise RefusedError("transparency", "the alpha channel is not uniform")
        values = values[..., :-1]
    if values.shape[2] == 1:
        return values[..., 0]
    wide = values.astype(np.int32)
    difference = int((wide.max(axis=2) - wide.min(axis=2)).max())
    if difference == 0:
        return values[..., 0]
    if difference > GREY_TOLERANCE and modality != "us":
        raise RefusedError("color", f"channels differ by up to {difference} levels")
    return luma_of(values)


def _is_binary(values: npt.NDArray[Any]) -> bool:
    return bool(((values == values.min()) | (values == values.max())).all())
