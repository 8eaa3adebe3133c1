"""MURA (Rajpurkar et al. 2018, Stanford): films of arms, normal or not per study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry, Split
from scoutview.ingest.layouts.tables import read_lines

PARTS: tuple[tuple[str, Split], ...] = (("train", "train"), ("valid", "validation"))


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    found = [f"{part}_labeled_studies.csv" for part, _ in PARTS if (folder / f"{part}_labeled_studies.csv").exists()]
    return f"it holds {found[0]}" if found else ""


def read(folder: Path) -> Iterator[Entry]:
    """Label abnormal of a study, for each of its images; label body_part from the folder (XR_WRIST is wrist).

    The files have no header. A patient's number is the same in all folders of body parts, and is taken as one
    patient.
    """
    found = False
    for part, split in PARTS:
        studies, images = folder / f"{part}_labeled_studies.csv", folder / f"{part}_image_paths.csv"
        if not studies.exists() and not images.exists():
            continue
        found = True
        abnormal = {_within(path, where): value for path, value, where in _lines(studies, 2)}
        for path, _, where in _lines(images, 1):
            place = _within(path, where)
            study = PurePosixPath(*place.parts[:-1])
            if study not in abnormal:
                raise UsageError(f"{where}: the study {study} is not in {studies.name}: restore both files")
            yield Entry(
                where,
                (place.as_posix(),),
                patient=place.parts[2],
                split=split,
                labels={"abnormal": abnormal[study], "body_part": place.parts[1].removeprefix("XR_").lower()},
            )
    if not found:
        raise UsageError(f"{folder} has no train_labeled_studies.csv: give the folder MURA-v1.1")


def _lines(path: Path, cells: int) -> Iterator[tuple[str, str, str]]:
    """(path, label or "", where), from the first line on, which is no header."""
    for number, line in enumerate(read_lines(path), start=1):
        parts = [part.strip() for part in line.split(",")]
        where = f"{path.name} row {number}"
        if not any(parts):
            continue
        if len(parts) != cells or (cells == 2 and parts[1] not in ("0", "1")):
            raise UsageError(f"{where} is not {'a path and 0 or 1' if cells == 2 else 'a path'}: restore the file")
        yield parts[0], parts[1] if cells == 2 else "", where


def _within(path: str, where: str) -> PurePosixPath:
    """The path from `train` or `valid` on: part, body part, patient, study[, image]."""
    place = PurePosixPath(path)
    first = next((index for index, part in enumerate(place.parts) if part in dict(PARTS)), None)
    if first is None or len(place.parts) - first < 4:
        raise UsageError(f"{where}: {path!r} is not train or valid, body part, patient, study: restore the file")
    return PurePosixPath(*place.parts[first:])
