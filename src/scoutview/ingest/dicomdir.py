"""The files that a DICOMDIR lists (PS3.3 annex F); others on its medium are not part of the source."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom.multival import MultiValue

from scoutview.errors import UsageError
from scoutview.ingest.files import SourceFile

_DIRECTORY = "1.2.840.10008.1.3.10"


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a Media Storage Directory, whatever its name."""
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return False
        return str(pydicom.filereader.read_file_meta_info(path).get("MediaStorageSOPClassUID", "")) == _DIRECTORY
    except Exception:  # malformed: reading it says why
        return False


def listed_in(path: Path) -> Iterator[SourceFile]:
    """The files of its records in their order. One that is missing, or would lie outside, is there to be refused.

    Raises:
        UsageError: if its records cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records = pydicom.dcmread(path).get("DirectoryRecordSequence") or []
            listed = [parts for parts in map(_parts, records) if parts]
    except Exception as error:
        raise UsageError(
            f"the records of {path} cannot be read ({type(error).__name__}): give its folder instead"
        ) from error
    folder = path.parent
    names: dict[Path, dict[str, str]] = {}
    for parts in listed:
        relative = Path(*[part for part in parts if part not in ("/", "\\")])
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            shown = SourceFile(path, Path(path.name), known_as=f"{path}!/{'/'.join(parts)}")
            yield _refused(shown, "unsafe_path", "it names a file outside its folder")
            continue
        found = _find(folder, parts, names)
        if found is None:
            yield _refused(SourceFile(folder / relative, relative), "missing_file", "it is listed and not there")
        else:
            yield SourceFile(found, found.relative_to(folder))


def _parts(record: Any) -> list[str]:
    value = record.get("ReferencedFileID")
    if value is None or value == "":
        return []
    return [str(part) for part in value] if isinstance(value, MultiValue | list) else [str(value)]


def _find(folder: Path, parts: list[str], names: dict[Path, dict[str, str]]) -> Path | None:
    """The file, in whatever case the medium or its copy wrote its name."""
    place = folder
    for part in parts:
        if place not in names:
            try:
                names[place] = {entry.name.lower(): entry.name for entry in place.iterdir()}
            except OSError:
                return None
        known = names[place].get(part.lower())
        if known is None:
            return None
        place = place / known
    return place


def _refused(file: SourceFile, reason: str, detail: str) -> SourceFile:
    return SourceFile(file.path, file.relative, file.known_as, stamp=reason, refusal=(reason, detail))
