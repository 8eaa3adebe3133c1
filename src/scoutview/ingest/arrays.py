"""NumPy .npz archives of 2D images: `images` or `<part>_images`, [image, row, column] integers."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.images import Image, Modality
from scoutview.images.types import to_int16
from scoutview.ingest.limits import check_size
from scoutview.ingest.refusals import RefusedError

Headers = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def read_npz(path: Path, modality: Modality) -> tuple[list[tuple[str, Image]], int]:
    """([(index, image), ...], number of constant images left out).

    The index is "12" for the array `images`, "train/12" for `train_images`. `patient_id` or `<part>_patient_id`
    gives the patients. Nothing is ever unpickled.

    Raises:
        RefusedError: unknown_layout, naming the arrays; truncated, unreadable, too_small, too_large or constant.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            headers = _headers(path)
            found = sorted(name for name in headers if name == "images" or name.endswith("_images"))
            if not found:
                raise RefusedError("unknown_layout", f"it holds {_described(headers)}")
            taken: list[tuple[str, Image]] = []
            skipped = 0
            for name in found:
                shape, dtype = headers[name]
                if len(shape) != 3 or dtype.kind not in "iu":
                    raise RefusedError("unknown_layout", f"it holds {_described(headers)}")
                check_size(shape[1], shape[2])
                part = name.removesuffix("images").removesuffix("_")
                patients = _patients(archive, headers, part, shape[0])
                images, constant = _images(archive[name], part, patients, modality)
                taken += images
                skipped += constant
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RefusedError("truncated", "the arrays end early or are damaged") from error
    except OSError as error:
        raise RefusedError("unreadable", "the file cannot be read") from error
    except (ValueError, KeyError) as error:
        raise RefusedError("unknown_layout", f"an array cannot be read ({type(error).__name__})") from error
    if not taken:
        raise RefusedError("constant", "every image has one value")
    return taken, skipped


def _images(
    values: npt.NDArray[Any], part: str, patients: list[str], modality: Modality
) -> tuple[list[tuple[str, Image]], int]:
    images, skipped = [], 0
    for number, image in enumerate(values):
        if image.min() == image.max():
            skipped += 1
            continue
        pixels, slope, offset, shifted = to_int16(image)
        index = f"{part}/{number}" if part else str(number)
        patient = patients[number] if patients else ""
        images.append(
            (
                index,
                Image(
                    pixels=pixels,
                    modality=modality,
                    slope=slope,
                    offset=offset,
                    shifted=shifted,
                    patient=patient,
                    source_format="npz",
                ),
            )
        )
    return images, skipped


def _patients(archive: Any, headers: Headers, part: str, count: int) -> list[str]:
    name = f"{part}_patient_id" if part else "patient_id"
    if name not in headers:
        return []
    shape, dtype = headers[name]
    if shape != (count,) or dtype.kind not in "iuUS":
        raise RefusedError("unknown_layout", f"{name} is not one integer or text per image")
    values = archive[name]
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _headers(path: Path) -> Headers:
    """Shape and type of each array, without its data."""
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                first = np.lib.format.read_array_header_1_0
                shape, _, dtype = (first if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)
            headers[entry.removesuffix(".npy")] = (shape, dtype)
    return headers


def _described(headers: Headers) -> str:
    """Names and shapes; a name is shown only where it is a plain word."""
    parts = [
        f"{name if name.isidentifier() and len(name) <= 32 else '?'} {list(shape)} {dtype}"
        for name, (shape, dtype) in headers.items()
    ]
    return ", ".join(parts[:8])
