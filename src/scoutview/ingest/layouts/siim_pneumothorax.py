"""SIIM-ACR pneumothorax (2019): masks as run lengths, in DICOM films of 1024 x 1024 px."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry, Mask
from scoutview.ingest.layouts.tables import first_of, header_of, read_table

NAME = "pneumothorax"
SIZE = 1024
FILES = ("stage_2_train.csv", "train-rle.csv", "*train-rle*.csv")
NONE = "-1"


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    path = _file(folder)
    return f"{path.name} has the columns ImageId and EncodedPixels" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Label and masks of each image; several rows of one image are several masks, "-1" says that there is none.

    The ids are SOP Instance UIDs. The set has no patient-wise split.
    """
    path = _file(folder)
    if path is None:
        raise UsageError(f"{folder} has no train-rle.csv with ImageId and EncodedPixels: give the folder that holds it")
    images: dict[str, list[tuple[str, str]]] = {}
    for row in read_table(path, ("ImageId", "EncodedPixels")):
        images.setdefault(row["ImageId"], []).append((row["EncodedPixels"], row.where))
    for image, runs in images.items():
        texts = [text for text, _ in runs if text != NONE]
        where = runs[0][1]
        if texts and len(texts) < len(runs):
            raise UsageError(f"{where}: image {image} has a mask and a -1: correct one")
        yield Entry(
            where,
            (image,),
            id=image,
            labels={NAME: str(int(bool(texts)))},
            masks=tuple(Mask(NAME, decode_runs(text, where)) for text in texts),
            no_masks=() if texts else (NAME,),
        )


def decode_runs(text: str, where: str = "") -> npt.NDArray[np.bool_]:
    """The bitmap [row, column] of pairs "offset length": down the columns, each offset from the end of the last run.

    Raises:
        UsageError: an odd or wrong number, or runs that leave the image.
    """
    try:
        numbers = np.array([int(number) for number in text.split()], dtype=np.int64)
        offsets, lengths = numbers[0::2], numbers[1::2]
        if offsets.size != lengths.size or numbers.min(initial=0) < 0 or numbers.sum() > SIZE * SIZE:
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(
            f"{where}: EncodedPixels are not pairs that fit an image of 1024 x 1024 px: restore the original file"
        ) from error
    values = np.repeat(np.tile([False, True], offsets.size), numbers)
    flat = np.zeros(SIZE * SIZE, dtype=np.bool_)
    flat[: values.size] = values
    return flat.reshape(SIZE, SIZE).T


def _file(folder: Path) -> Path | None:
    """RSNA's haemorrhage set names a file of its own stage_2_train.csv: the columns tell."""
    for pattern in FILES:
        path = first_of(folder, pattern)
        if path and {"ImageId", "EncodedPixels"} <= set(header_of(path)):
            return path
    return None
