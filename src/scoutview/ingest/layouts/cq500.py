"""CQ500 (Chilamkurthy et al. 2018, qure.ai): head CT, read by three radiologists per scan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry
from scoutview.ingest.layouts.tables import header_of, read_table

READERS = ("R1", "R2", "R3")
FOLDER = re.compile(r"CQ500-?CT-?(\d+)\b")


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    return "reads.csv has the column R1:ICH" if "R1:ICH" in header_of(folder / "reads.csv") else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels of a study by each reader R1, R2, R3; the majority of three is the published truth, and our consensus.

    A study is all series of a folder `CQ500CT12 CQ500CT12`, whose scan is `CQ500-CT-12` in reads.csv.
    """
    path = folder / "reads.csv"
    names = [name.removeprefix("R1:") for name in header_of(path) if name.startswith("R1:")]
    scans = _scans(folder)
    for row in read_table(path, ("name", *(f"{reader}:{name}" for reader in READERS for name in names))):
        number = FOLDER.search(row["name"])
        if number is None:
            raise UsageError(f"{row.where}: {row['name']!r} is no CQ500-CT-<number>: restore the original file")
        # Without the folder the row is still counted, as one that names no image.
        files = scans.get(int(number[1]), (row["name"],))
        if row.get("Category"):
            yield Entry(row.where, files, about="study", labels={"category": row["Category"]})
        for reader in READERS:
            values = {name: row[f"{reader}:{name}"] for name in names}
            odd = next((value for value in values.values() if value not in ("", "0", "1")), "")
            if odd:
                raise UsageError(f"{row.where}: {odd!r} is neither 0 nor 1: restore the original file")
            labels = {name: value for name, value in values.items() if value}
            yield Entry(row.where, files, about="study", reader=reader, labels=labels)


def _scans(folder: Path) -> dict[int, tuple[str, ...]]:
    """Number of a scan -> paths of its files; the first of them that was taken tells the study."""
    scans: dict[int, tuple[str, ...]] = {}
    for place in sorted(folder.rglob("CQ500*")):
        number = FOLDER.match(place.name)
        if number is None or not place.is_dir() or FOLDER.match(place.parent.name):
            continue
        files = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        if files:
            scans[int(number[1])] = tuple(path.relative_to(folder).as_posix() for path in files)
    return scans
