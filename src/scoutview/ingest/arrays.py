"""NumPy .npz archives of 2D images: `images` or `<part>_images`, [image, row, column] integers."""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from scoutview.images import Image, Modality
from scoutview.images.types import to_int16
from scoutview.ingest.limits import check_inflated, check_size
from scoutview.ingest.refusals import RefusedError

LARGEST_COLUMN = 2**26
"""Bytes of an array that is read at once: patients, or images that lie column by column."""

Indexed = tuple[str, Image]


@dataclass(frozen=True)
class _Array:
    """The header of an array. begin: bytes of it; nbytes: of the values behind it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool
    begin: int
    nbytes: int

    def __str__(self) -> str:
        return f"{list(self.shape)} {self.dtype}"


def read_npz(path: Path, modality: Modality) -> Iterator[Indexed]:
    """(index, image), one at a time; images of one value are among them.

    The index is "12" for the array `images`, "train/12" for `train_images`. `patient_id` or `<part>_patient_id`
    gives the patients. Nothing is ever unpickled.

    Raises:
        RefusedError: unknown_layout, naming the arrays; truncated, decode_error, unreadable, too_small or too_large.
    """
    with _opened(path) as archive:
        arrays = _arrays(archive)
        found = sorted(name for name in arrays if name == "images" or name.endswith("_images"))
        images = [arrays[name] for name in found]
        if not found or any(len(array.shape) != 3 or array.dtype.kind not in "iu" for array in images):
            raise RefusedError("unknown_layout", f"it holds {_described(arrays)}")
        check_inflated(sum(array.nbytes for array in images))
        for array in images:
            check_size(array.shape[1], array.shape[2])
        for name in found:
            part = name.removesuffix("images").removesuffix("_")
            patients = _patients(archive, arrays, part, arrays[name].shape[0])
            for number, values in enumerate(_each(archive, name, arrays[name])):
                pixels, slope, offset, shifted = to_int16(values)
                image = Image(
                    pixels=pixels,
                    modality=modality,
                    slope=slope,
                    offset=offset,
                    shifted=shifted,
                    patient=patients[number] if patients else "",
                    source_format="npz",
                )
                yield f"{part}/{number}" if part else str(number), image


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; what reading it raises becomes the reason of a refusal."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RefusedError("truncated", "the arrays end early or are damaged") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a directory that leads in front of the file
            raise RefusedError("truncated", "the arrays are not where the directory says") from error
        raise RefusedError("unreadable", "the file cannot be read") from error
    except (ValueError, TypeError, TokenError, KeyError, SyntaxError, NotImplementedError, RuntimeError) as error:
        raise RefusedError("unknown_layout", f"an array cannot be read ({type(error).__name__})") from error


def _arrays(archive: zipfile.ZipFile) -> dict[str, _Array]:
    """Name -> header of each array, without its data."""
    arrays = {}
    for entry in archive.infolist():
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError("unknown_layout", "a compression that NumPy does not write")
        with archive.open(entry) as stream:
            version = np.lib.format.read_magic(stream)
            first = np.lib.format.read_array_header_1_0
            shape, by_column, dtype = (first if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)
            begin = stream.tell()
        if any(size < 0 for size in shape):
            raise RefusedError("unknown_layout", "an array of negative size")
        nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        name = entry.filename.removesuffix(".npy")
        if name in arrays:
            raise RefusedError("unknown_layout", "two arrays of one name")
        if not dtype.hasobject and entry.file_size != begin + nbytes:
            raise RefusedError("truncated", "an array is not as long as its header says")
        arrays[name] = _Array(shape, dtype, by_column and len(shape) > 1, begin, nbytes)
    return arrays


def _each(archive: zipfile.ZipFile, name: str, array: _Array) -> Iterator[npt.NDArray[Any]]:
    """The images [row, column] of an array, one after the other; the last has the checksum of all verified."""
    if array.by_column:
        yield from _whole(archive, name, array)
        return
    with archive.open(f"{name}.npy") as stream:
        _read(stream, array.begin)
        for _ in range(array.shape[0]):
            data = _read(stream, array.nbytes // array.shape[0])
            yield np.frombuffer(data, array.dtype).reshape(array.shape[1:])
        stream.read(1)


def _whole(archive: zipfile.ZipFile, name: str, array: _Array) -> npt.NDArray[Any]:
    if array.nbytes > LARGEST_COLUMN:
        raise RefusedError("too_large", f"{array.nbytes} bytes that can only be read at once, at most 2^26 are taken")
    with archive.open(f"{name}.npy") as stream:
        _read(stream, array.begin)
        data = _read(stream, array.nbytes)
        stream.read(1)
    return np.frombuffer(data, array.dtype).reshape(array.shape, order="F" if array.by_column else "C")


def _read(stream: IO[bytes], nbytes: int) -> bytes:
    data = stream.read(nbytes)
    if len(data) < nbytes:
        raise EOFError
    return data


def _patients(archive: zipfile.ZipFile, arrays: Mapping[str, _Array], part: str, count: int) -> list[str]:
    name = f"{part}_patient_id" if part else "patient_id"
    if name not in arrays:
        return []
    array = arrays[name]
    if array.shape != (count,) or array.dtype.kind not in "iuUS":
        raise RefusedError("unknown_layout", f"{name} is not one integer or text per image")
    values = _whole(archive, name, array).tolist()
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def _described(arrays: Mapping[str, _Array]) -> str:
    """Names and shapes; a name is shown only where it is a plain word."""
    parts = [f"{name if name.isidentifier() and len(name) <= 32 else '?'} {array}" for name, array in arrays.items()]
    return ", ".join(parts[:8])
