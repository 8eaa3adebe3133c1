"""NODE21 (Sogancioglu et al. 2022): nodules in chest films, one row per box."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Box, Entry
from scoutview.ingest.layouts.tables import header_of, number_of, read_table

NAME = "nodule"
PLACES = ("metadata.csv", "proccessed_data/metadata.csv", "cxr_images/proccessed_data/metadata.csv")
COLUMNS = ("img_name", "label", "x", "y", "width", "height")


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    place = next((place for place in PLACES if set(COLUMNS) <= set(header_of(folder / place))), "")
    return f"{place} has the columns img_name, label, x, y, width, height" if place else ""


def read(folder: Path) -> Iterator[Entry]:
    """Label nodule and boxes (x, y of the top left corner, width, height); a row with label 0 is an image without any.

    The images were passed through an energy normalisation by the publishers; the set has no public test part.
    """
    path = next((folder / place for place in PLACES if (folder / place).exists()), None)
    if path is None:
        raise UsageError(f"{folder} has no metadata.csv: give the folder that holds it")
    for row in read_table(path, COLUMNS):
        image = row["img_name"]
        positive = number_of(row["label"], row.where, "label") == 1
        x, y, width, height = (number_of(row[name], row.where, name) for name in COLUMNS[2:])
        yield Entry(
            row.where,
            (image, PurePosixPath(image).stem),
            labels={NAME: str(int(positive))},
            boxes=(Box(NAME, x, y, width, height),) if positive else (),
            no_boxes=() if positive else (NAME,),
        )
