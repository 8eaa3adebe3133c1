"""A CSV that says which mask file belongs to which image: columns file and mask, perhaps name, reader and split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.bitmaps import read_bitmap
from scoutview.ingest.layouts.entries import Entry, Mask, Split
from scoutview.ingest.layouts.nifti_masks import slices_of
from scoutview.ingest.layouts.tables import TableRow, header_of, read_table

NAME = "mask"
SPLITS: dict[str, Split] = {"": "", "train": "train", "validation": "validation", "test": "test"}


def is_mask_table(path: Path) -> bool:
    """Whether a CSV file has the columns file and mask."""
    return path.suffix.lower() in (".csv", ".gz") and {"file", "mask"} <= set(header_of(path))


def read_mask_table(path: Path) -> Iterator[Entry]:
    """The masks of each row: `mask` is a picture or a NIfTI volume, a path below the folder of the CSV.

    Where a picture is not black, and where a volume is not 0, is the finding `name` ("mask" without that column). A
    volume of several values v makes a mask "<name> v" of each; where its image lies below the folder too, both
    must be on one grid. An image whose mask is empty has none of the finding.

    Raises:
        UsageError: a mask is missing or cannot be read, or lies on another grid.
    """
    for row in read_table(path, ("file", "mask")):
        split = row.get("split").lower()
        if split not in SPLITS:
            raise UsageError(f"{row.where}: split {split!r} is none of train, validation, test: correct it")
        mask = path.parent / row["mask"]
        if not row["mask"] or not mask.is_file():
            raise UsageError(f"{row.where}: the mask {row['mask']!r} is not below {path.parent}: correct the path")
        name = row.get("name") or NAME
        if mask.name.lower().endswith((".nii", ".nii.gz")):
            yield from _volume(row, mask, path.parent, name, SPLITS[split])
            continue
        bitmap = read_bitmap(mask)
        yield Entry(
            row.where,
            (row["file"],),
            patient=row.get("patient"),
            split=SPLITS[split],
            reader=row.get("reader"),
            masks=(Mask(name, bitmap),) if bitmap.any() else (),
            no_masks=() if bitmap.any() else (name,),
        )


def _volume(row: TableRow, mask: Path, folder: Path, name: str, split: Split) -> Iterator[Entry]:
    image = folder / row["file"]
    slices = list(slices_of(mask, image if image.is_file() else None))
    values = sorted({value for _, regions in slices for value in regions})
    names = {value: name if len(values) == 1 else f"{name} {value}" for value in values}
    reader = row.get("reader")
    yield Entry(
        row.where,
        (row["file"],),
        about="series",
        patient=row.get("patient"),
        split=split,
        reader=reader,
        no_masks=tuple(names.values()) or (name,),
    )
    for index, regions in slices:
        masks = tuple(Mask(names[value], bitmap) for value, bitmap in regions.items())
        yield Entry(f"{row.where} slice {index}", (f"{row['file']}#{index}",), reader=reader, masks=masks)
