"""Stored values of a single DICOM frame, exactly as the encoder of the file had them (PS3.5 section 8).

imagecodecs decodes the lossless and JPEG 2000 families (exact on every public sample); pydicom does the rest.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.encaps import get_frame
from pydicom.pixels import convert_color_space, get_decoder, pixel_array

from scoutview.images.slabs import row_slabs
from scoutview.ingest.codestreams import check_announced
from scoutview.ingest.frames import open_frames
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.vocabulary import registered

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"})
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
RLE = "1.2.840.10008.1.2.5"
_JPEG_2000 = frozenset(
    {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"} | {f"1.2.840.10008.1.2.4.20{i}" for i in (1, 2, 3)}
)
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "1.2.840.10008.1.2.4.57": imagecodecs.ljpeg_decode,
    "1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_decode,
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.81": imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.90": imagecodecs.jpeg2k_decode,
    "1.2.840.10008.1.2.4.91": imagecodecs.jpeg2k_decode,
    "1.2.840.10008.1.2.4.201": imagecodecs.htj2k_decode,
    "1.2.840.10008.1.2.4.202": imagecodecs.htj2k_decode,
    "1.2.840.10008.1.2.4.203": imagecodecs.htj2k_decode,
}
_END_OF_IMAGE = b"\xff\xd9"
_PADDING = 256
"""Bytes that the runs of a byte plane may exceed it by."""


@dataclass(frozen=True)
class PixelFormat:
    """The Image Pixel module (PS3.3 C.7.6.3), checked: 8, 16 or 32 bits, one or three samples."""

    syntax: str
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    frames: int = 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that is not compressed."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * (self.bits_allocated // 8)

    @property
    def lowest(self) -> int:
        """The smallest value that the stored bits can hold."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest value that the stored bits can hold."""
        return (1 << (self.bits_stored - int(self.signed))) - 1


def decode_frame(path: Path, form: PixelFormat) -> npt.NDArray[Any]:
    """Stored values [row, column], or luma 0..255 (ITU-R BT.601, as in JPEG) of a three-sample frame.

    Raises:
        RefusedError: no_decoder:<transfer syntax>, decode_error, or what `open_frames` raises.
    """
    _check_decoder(form)
    return decode_dataset(open_frames(path, 1, form.frame_bytes).dataset(0), form)


def _check_decoder(form: PixelFormat) -> None:
    lossy_12_bit = form.syntax == JPEG_EXTENDED and form.bits_stored > 8
    known = form.syntax in NATIVE or form.syntax in _DECODERS or form.syntax in (JPEG_BASELINE, JPEG_EXTENDED, RLE)
    if lossy_12_bit or not known:
        raise RefusedError(
            f"no_decoder:{registered(form.syntax)}", "no decoder is known to be right for this transfer syntax"
        )


def decode_dataset(dataset: Any, form: PixelFormat) -> npt.NDArray[Any]:
    """As `decode_frame`, of a data set that holds one frame."""
    _check_decoder(form)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if form.syntax in NATIVE:
                return _native(dataset, form)
            return _encapsulated(dataset, form)
    except RefusedError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise RefusedError("decode_error", f"{type(error).__name__} while decoding the pixels") from error


def _native(dataset: Any, form: PixelFormat) -> npt.NDArray[Any]:
    data = dataset.PixelData
    if len(data) < form.frame_bytes:
        raise RefusedError("truncated", f"{len(data)} bytes of pixels where {form.frame_bytes} are needed")
    if form.samples == 3:
        return _luma(dataset, form)
    order = ">" if form.syntax == "1.2.840.10008.1.2.2" else "<"
    kind = {8: "u1", 16: f"{order}u2", 32: f"{order}u4"}[form.bits_allocated]
    if form.syntax == "1.2.840.10008.1.2.2" and form.bits_allocated == 8 and dataset["PixelData"].VR == "OW":
        # 8-bit pixels in big endian 16-bit words: every pair of bytes is swapped (PS3.5 8.1.1).
        padded = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").view("u1")
        values = padded[: form.rows * form.columns]
    else:
        values = np.frombuffer(data, kind, form.rows * form.columns)
    return _stored_bits(values.reshape(form.rows, form.columns), form, form.high_bit + 1 - form.bits_stored)


def _stored_bits(values: npt.NDArray[Any], form: PixelFormat, above: int = 0) -> npt.NDArray[Any]:
    """Keep the stored bits and their sign; bits above them may hold overlays or a wrong sign extension.

    above: bits below the stored ones.
    """
    mask = (1 << form.bits_stored) - 1
    sign = 1 << (form.bits_stored - 1) if form.signed else 0
    wide = form.bits_allocated == 32
    kinds = {(False, False): np.uint16, (False, True): np.int16, (True, False): np.uint32, (True, True): np.int32}
    stored = np.empty(values.shape, kinds[wide, form.signed])
    for slab in row_slabs(*values.shape):
        part: npt.NDArray[Any] = values[slab].astype(np.int64 if wide else np.int32)
        unsigned = (part >> above) & mask
        stored[slab] = (unsigned ^ sign) - sign
    return stored


def _encapsulated(dataset: Any, form: PixelFormat) -> npt.NDArray[Any]:
    if not dataset["PixelData"].is_undefined_length:
        raise RefusedError("decode_error", "compressed pixel data that are not encapsulated")
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if form.syntax != RLE and _END_OF_IMAGE not in frame[-64:]:
        raise RefusedError("truncated", "the compressed data lack their end marker")
    expected = (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, 3)
    if form.syntax != RLE:
        check_announced(frame, expected)
    if form.syntax in (JPEG_BASELINE, JPEG_EXTENDED):
        if form.samples == 3:
            return _luma(dataset, form)
        decoded = pixel_array(dataset, raw=True)
    elif form.syntax == RLE:
        decoded = _run_lengths(frame, form)
    else:
        with _no_error_ignored():
            decoded = np.asarray(_DECODERS[form.syntax](frame))
    if decoded.shape != expected:
        raise RefusedError("decode_error", f"the codestream holds {decoded.shape}, the header says {expected}")
    if form.samples == 1:
        return _stored_bits(decoded, form)
    # JPEG 2000 undoes its own colour transform; elsewhere the samples are what the photometric says.
    if form.photometric == "RGB" or (form.syntax in _JPEG_2000 and form.photometric != "YBR_FULL"):
        return luma_of(decoded)
    return np.asarray(decoded[..., 0], dtype=np.uint8)


@contextmanager
def _no_error_ignored() -> Iterator[None]:
    """Refuse a frame whose decoder met an error and went on: that of HTJ2K returns what it has, without an error.

    Raises:
        RefusedError: decode_error.
    """
    ignored: list[str] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: ignored.append(type(unraisable.exc_value).__name__)
    try:
        yield
    finally:
        sys.unraisablehook = before
    if ignored:
        raise RefusedError("decode_error", f"{ignored[0]} while decoding the pixels")


def _run_lengths(frame: bytes, form: PixelFormat) -> npt.NDArray[Any]:
    """RLE (PS3.5 annex G): byte planes, most significant first, sample after sample."""
    size = form.bits_allocated // 8
    area = form.rows * form.columns
    head = np.frombuffer(frame[:64], "<u4").tolist()
    count = form.samples * size
    if len(head) < 16 or head[0] != count:
        raise RefusedError("decode_error", f"the run lengths are not of {count} byte planes")
    places = [*head[1 : count + 1], len(frame)]
    if places[0] < 64 or sorted(places) != places:
        raise RefusedError("decode_error", "the run lengths do not say where they are")
    planes = np.empty((count, area), np.uint8)
    for number in range(count):
        # The decoder refuses runs that need more room than this.
        plane = imagecodecs.packbits_decode(frame[places[number] : places[number + 1]], out=area + _PADDING)
        if len(plane) < area:
            raise RefusedError("truncated", "the run lengths end early")
        planes[number] = np.frombuffer(plane, np.uint8, area)
    if form.samples == 1:
        values = np.ascontiguousarray(planes.T).view(f">u{size}")
        return values.reshape(form.rows, form.columns)
    return np.moveaxis(planes.reshape(form.samples, form.rows, form.columns), 0, -1)


def _luma(dataset: Any, form: PixelFormat) -> npt.NDArray[Any]:
    """Luma of a frame that pydicom decodes: it knows planar configurations, subsampling and JPEG's transforms."""
    if dataset.get("PlanarConfiguration") not in (0, 1):
        raise RefusedError("bad_header", "PlanarConfiguration is missing or malformed")
    values, decoded = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=True)
    photometric = str(decoded["photometric_interpretation"])
    if photometric.startswith("YBR_FULL") and form.syntax in NATIVE:
        return np.asarray(values[..., 0], dtype=np.uint8)
    if not photometric.startswith("YBR_FULL"):
        return luma_of(values)
    luma = np.empty(values.shape[:2], np.uint8)
    for slab in row_slabs(*luma.shape):
        luma[slab] = luma_of(convert_color_space(values[slab], photometric, "RGB"))
    return luma


def luma_of(rgb: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """0.299 R + 0.587 G + 0.114 B of [row, column, 3], rounded, in the type of the samples."""
    luma = np.empty(rgb.shape[:2], rgb.dtype)
    for slab in row_slabs(*rgb.shape[:2]):
        luma[slab] = np.rint(rgb[slab, :, :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114]))
    return luma
