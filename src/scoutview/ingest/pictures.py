"""PNG, JPEG and TIFF -> an image, or one per page. Tags of resolution are ignored: they describe a print."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from scoutview.images import Image, Modality
from scoutview.images.slabs import row_slabs
from scoutview.images.types import LARGEST_AREA, to_int16
from scoutview.ingest.dicom_pixels import luma_of
from scoutview.ingest.limits import check_size, check_varies
from scoutview.ingest.refusals import RefusedError

GREY_TOLERANCE = 2
"""Levels by which the channels of a grey picture that was saved in colour may differ."""
LARGEST_PICTURE = 8 * LARGEST_AREA + 2**20
"""Bytes of a PNG or JPEG file, and of what is read at once of a TIFF file: four samples of 16 bits, and text."""
MOST_PAGES = 2**16

_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262
_TIFF_SUBFILE = 254
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType (TIFF 6.0): a smaller version of another page, a transparency mask."""
_GREY_MODES = ("L", "I;16", "I;16B", "I;16L", "I", "F")

Indexed = tuple[str, Image]


class _Bounded(io.BufferedReader):
    """A file of which no more than a picture's bytes are read at once, whatever its tags announce."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > LARGEST_PICTURE:
            left = os.fstat(self.fileno()).st_size - self.tell()
            size = left if size is None or size < 0 else min(size, left)
            if size > LARGEST_PICTURE:
                raise RefusedError("too_large", f"{size} bytes in one piece, at most {LARGEST_PICTURE} are taken")
        return super().read(size)


def read_picture(path: Path, modality: Modality, name: str) -> Iterator[Indexed]:
    """(index, image) of a PNG, JPEG or TIFF file; grey, or luma where the modality is "us".

    An EXIF orientation is applied, so that the image is stored as every viewer shows it. The index is "", or the
    number of the page, from 0; the pages are images of one series, which is `name`, without any place in a patient.

    Raises:
        RefusedError: with the reason code.
    """
    with _opened(path) as picture:
        pages = _pages(picture)
        if pages is None:
            check_size(picture.height, picture.width)
            yield "", _image(_values(picture, path, modality), modality)
            return
        # A page that is refused refuses the file: a part of it must not look complete.
        flags = ("ungeometric",) if len(pages) == picture.n_frames else ("pages_left_out", "ungeometric")
        for number in pages:
            picture.seek(number)
            check_size(picture.height, picture.width)
            values = _values(picture, path, modality)  # what refuses a page refuses the file
            if values.min() == values.max():  # counted by who takes the images
                yield str(number), Image(np.zeros(values.shape, np.int16), modality)
                continue
            yield str(number), replace(_image(values, modality), series=name, slice_index=number, flags=flags)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Pillow's picture of a file; what Pillow raises becomes the reason of a refusal."""
    try:
        with warnings.catch_warnings(), path.open("rb", buffering=0) as raw:
            warnings.simplefilter("ignore")  # Pillow's warning of large images: the limit is ours
            Pillow.MAX_IMAGE_PIXELS = LARGEST_AREA
            head = raw.read(4)
            if head == b"\x89PNG":
                _check_png(raw)
            raw.seek(0)
            if not head.startswith((b"II", b"MM")) and os.fstat(raw.fileno()).st_size > LARGEST_PICTURE:
                raise RefusedError("too_large", f"a file of more than {LARGEST_PICTURE} bytes")
            with Pillow.open(_Bounded(raw), formats=("PNG", "JPEG", "TIFF", "MPO")) as picture:
                yield picture
    except Pillow.DecompressionBombError as error:
        raise RefusedError("too_large", "more than 2^25 pixels") from error
    except UnidentifiedImageError as error:
        raise RefusedError("decode_error", "Pillow does not know this variant") from error
    except (SyntaxError, ValueError, TypeError, KeyError, EOFError, RuntimeError, struct.error) as error:
        raise RefusedError("decode_error", f"damaged ({type(error).__name__})") from error
    except OSError as error:
        if error.errno is not None:
            raise RefusedError("unreadable", "the file cannot be read") from error
        if "truncated" in str(error).lower():
            raise RefusedError("truncated", "the pixels end early") from error
        raise RefusedError("decode_error", "damaged pixels") from error


def _check_png(stream: io.FileIO) -> None:
    """Verify the checksum of every critical chunk, which Pillow does not (PNG 5.4: upper case names).

    Raises:
        RefusedError: truncated or decode_error.
    """
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        left, kind = int.from_bytes(head[:4], "big"), head[4:]
        if not kind[:1].isupper():
            stream.seek(left + 4, os.SEEK_CUR)
            continue
        checksum = zlib.crc32(kind)
        while left and (data := stream.read(min(left, 2**20))):
            checksum = zlib.crc32(data, checksum)
            left -= len(data)
        wanted = stream.read(4)
        if left or len(wanted) < 4:
            break
        if int.from_bytes(wanted, "big") != checksum:
            raise RefusedError("decode_error", "a chunk does not have its checksum")
        if kind == b"IEND":
            return
    raise RefusedError("truncated", "the end marker is missing")


def _pages(picture: Any) -> list[int] | None:
    """The full-size pages of a TIFF file, those of the size of the first; None for a file of one picture.

    Raises:
        RefusedError: multi_frame for an animated PNG, too_large for more pages than a file may have.
    """
    if picture.format == "MPO" or not getattr(picture, "is_animated", False):
        return None
    if picture.format != "TIFF":
        raise RefusedError("multi_frame", "several frames")
    pages: list[int] = []
    size = (0, 0)
    for number in range(MOST_PAGES + 1):
        try:
            picture.seek(number)
        except EOFError:
            return pages
        if picture.tag_v2.get(_TIFF_SUBFILE, 0) & (_REDUCED | _MASK):
            continue
        size = size if pages else picture.size
        if picture.size == size:
            pages.append(number)
    raise RefusedError("too_large", f"more than {MOST_PAGES} pages")


def _image(values: npt.NDArray[Any], modality: Modality) -> Image:
    if values.dtype.kind == "f" and not np.isfinite((values.min(), values.max())).all():
        raise RefusedError("not_finite", "NaN or infinity")
    check_varies(values)
    if values.dtype.kind != "f" and _is_binary(values):
        raise RefusedError("label_map", "two grey levels only")
    pixels, slope, offset, shifted = to_int16(values)
    return Image(pixels=pixels, modality=modality, slope=slope, offset=offset, shifted=shifted)


def _values(picture: Any, path: Path, modality: Modality) -> npt.NDArray[Any]:
    """Grey values [row, column] of the page at which the picture stands."""
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
    difference = 0
    for slab in row_slabs(*values.shape[:2]):
        wide = values[slab].astype(np.int32)
        difference = max(difference, int((wide.max(axis=2) - wide.min(axis=2)).max()))
    if difference == 0:
        return values[..., 0]
    if difference > GREY_TOLERANCE and modality != "us":
        raise RefusedError("color", f"channels differ by up to {difference} levels")
    return luma_of(values)


def _is_binary(values: npt.NDArray[Any]) -> bool:
    return bool(((values == values.min()) | (values == values.max())).all())
