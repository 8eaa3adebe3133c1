"""Opening refused files for a picture, in a process that may die: what ingest refused is what breaks decoders.

Nothing is shown that may name a patient in its pixels.
"""

from __future__ import annotations

import resource
import signal
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image as Pillow
from pydicom.pixels import pixel_array

from scoutview.ingest import RefusedError, read_file
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess

UNNAMED = frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "RG", "RTDOSE", "SEG", "XA"})
"""Modalities whose devices write no text about a patient into the pixels."""

NAMES = "might name a patient in the pixels"
_LARGEST = 2**27
_SECONDS = 5.0
_MEMORY = 2**33
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_CAPTURES = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.", "1.2.840.10008.5.1.4.1.1.77.")

Opened = tuple[npt.NDArray[np.uint8] | None, str]
"""(picture [row, column] of 0..255, why there is none); one of them is missing."""


def open_pictures(paths: list[str]) -> list[Opened]:
    """The picture of each file, in a process that is killed after five seconds or with more than 8 GB of memory."""
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)  # the signal ends the process, whatever a decoder is doing
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if most == resource.RLIM_INFINITY else min(most, _MEMORY), most))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = [_opened(Path(path)) for path in paths]
    signal.setitimer(signal.ITIMER_REAL, 0)
    return opened


def _opened(path: Path) -> Opened:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return None, "had become something else"
        if status.st_size > _LARGEST:
            return None, "exceeded 128 MB"
        with path.open("rb") as stream:
            head = stream.read(132)
        # A DICOM file may begin like a TIFF: its preamble is free.
        picture = head.startswith(_PICTURES) and head[128:] != b"DICM"
        unit = _of_picture(path) if picture else _of_dicom(path)
        return (None, NAMES) if unit is None else (np.rint(255 * unit).astype(np.uint8), "")
    except FileNotFoundError:
        return None, "had gone"
    except Exception:  # whatever a damaged file raises
        return None, "could not be decoded"


def _of_picture(path: Path) -> npt.NDArray[Any]:
    with Pillow.open(path, formats=("PNG", "JPEG", "TIFF")) as picture:
        grey = picture if picture.mode in ("I", "F") or picture.mode.startswith("I;16") else picture.convert("L")
        return _stretched(np.asarray(grey))


def _of_dicom(path: Path) -> npt.NDArray[Any] | None:
    """The middle image of a DICOM file [row, column] in [0, 1]; None when it may name a patient."""
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    if "Rows" not in header:
        raise ValueError("no pixels")
    if may_name_a_patient(header):
        return None
    try:
        images = read_file(path)  # masks the text of ultrasound
    except RefusedError:
        if _text(header, "Modality") not in UNNAMED:
            return None
        stored = pixel_array(pydicom.dcmread(path, force=True), index=0)
        unit = _stretched(stored.mean(axis=2) if stored.ndim == 3 else stored)
        return 1 - unit if _text(header, "PhotometricInterpretation") == "MONOCHROME1" else unit
    image = images[len(images) // 2]
    return None if "text_unknown" in image.flags else preprocess(image.pixels, calibration_of(image), Preprocessing())


def may_name_a_patient(header: Any) -> bool:
    """Whether a header says that text is burned into the pixels, or that they are a screen or a photograph."""
    kinds = _text(header, "ImageType")
    meta = getattr(header, "file_meta", None) or {}
    classes = (_text(header, "SOPClassUID"), _text(meta, "MediaStorageSOPClassUID"))
    return (
        _text(header, "BurnedInAnnotation") == "YES"
        or any(word in kinds for word in ("SCREEN", "DOSE"))
        or any(one == _CAPTURES[0] or one.startswith(_CAPTURES[1:]) for one in classes)
    )


def _text(header: Any, keyword: str) -> str:
    value = header.get(keyword, "")
    return str(getattr(value, "value", value) or "").strip().upper()


def _stretched(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values between their 0.5% and 99.5% percentiles as 0..1."""
    low, high = np.percentile(values, (0.5, 99.5))
    unit: npt.NDArray[Any] = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-9), 0, 1)
    return unit
