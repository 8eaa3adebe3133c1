"""Pictures of refused files for the page of `scoutview inspect`, where they can be shown and name nobody.

What ingest refused is what breaks decoders: it is opened in a process beside this one, which may die, hang or run out
of memory without harm.
"""

from __future__ import annotations

import resource
import signal
import stat
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image as Pillow
from pydicom.pixels import pixel_array

from scoutview.commands.store_tables import rows_of_query
from scoutview.errors import RunError
from scoutview.ingest import RefusedError, read_file
from scoutview.ingest.pool import in_processes
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.report import Sheet, Thumbnail, Tile
from scoutview.report.thumbnails import thumbnail

PRIVATE = ("burned_in", "secondary_capture", "text_unknown")
"""Reasons whose files may name a patient in their pixels: they are never opened."""
PICTURELESS = (
    "archive", "constant", "empty_file", "killed_the_reader", "no_pixels", "not_a_file", "not_an_image", "symlink",
    "too_large", "unreadable", "unsupported_format",
)  # fmt: skip
"""Reasons whose files hold no picture, or none that can be shown."""
UNNAMED = frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "RG", "RTDOSE", "SEG", "XA"})
"""Modalities whose devices write no text about a patient into the pixels."""

NAMES = "might name a patient in the pixels"
_UNSHOWN = "No picture: text in the pixels of these files may name a patient."
_LARGEST = 2**27
_SECONDS = 5.0
_MEMORY = 2**33
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_CAPTURES = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.", "1.2.840.10008.5.1.4.1.1.77.")

PICTURES = 8
"""Files of a reason that are opened for a picture."""

# Files with different details first.
_EXAMPLES = """
WITH numbered AS (
    SELECT reason, path, detail, row_number() OVER (PARTITION BY reason, detail ORDER BY path) AS place FROM refused
)
SELECT reason, path, detail FROM numbered WHERE place <= {most}
QUALIFY row_number() OVER (PARTITION BY reason ORDER BY place, path) <= {most} ORDER BY reason, place, path
"""

Opened = tuple[str, str]
"""(data URI of the picture, why there is none); one of them is ""."""


def refused_examples(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[str, str]]]:
    """reason -> (path, detail) of up to 8 files, from the tables of `tables_of`."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows_of_query(connection, _EXAMPLES.format(most=PICTURES)):
        found.setdefault(row["reason"], []).append((row["path"], row["detail"]))
    return found


def refused_sheets(examples: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Sheet]:
    """reason -> pictures of these files, where they can be shown and name nobody; never fails.

    Files of the reasons in `PRIVATE` and `PICTURELESS` are not opened. Of the others none is shown whose header says
    that it is a screen or has text burned in, nor ultrasound whose text cannot be masked.
    """
    sheets = {reason: Sheet((), (_UNSHOWN,)) for reason in examples if reason in PRIVATE}
    shown = {reason: files for reason, files in examples.items() if reason not in (*PRIVATE, *PICTURELESS)}
    asked = [path for files in shown.values() for path, _ in files]
    try:
        results = iter(list(in_processes(asked, open_pictures, _died, workers=1, chunk=1)))
    except RunError:  # no reason to end without a page
        results = iter([("", "lacked a process to be opened in")] * len(asked))
    for reason, files in shown.items():
        opened = [next(results) for _ in files]
        tiles = [
            Tile((Thumbnail(uri, f"refused as {reason}"),), (Path(path).name,))
            for (path, _), (uri, _) in zip(files, opened, strict=True)
            if uri
        ]
        sheets[reason] = Sheet(tiles, _note(Counter(problem for _, problem in opened if problem), len(files)))
    return sheets


def _note(problems: Counter[str], tried: int) -> tuple[str, ...]:
    if not problems:
        return ()
    told = "; ".join(f"{number} {problem}" for problem, number in problems.items())
    return (f"{sum(problems.values())} of these {tried} files are not shown: {told}.",)


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


def _died(_: str) -> Opened:
    return "", "ended the process that opened them"


def _opened(path: Path) -> Opened:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "", "had become something else"
        if status.st_size > _LARGEST:
            return "", "exceeded 128 MB"
        with path.open("rb") as stream:
            head = stream.read(132)
        # A DICOM file may begin like a TIFF: its preamble is free.
        picture = head.startswith(_PICTURES) and head[128:] != b"DICM"
        unit = _of_picture(path) if picture else _of_dicom(path)
        return ("", NAMES) if unit is None else (thumbnail(unit), "")
    except FileNotFoundError:
        return "", "had gone"
    except Exception:  # whatever a damaged file raises
        return "", "could not be decoded"


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
