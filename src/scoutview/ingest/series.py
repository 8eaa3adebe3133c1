"""Headers first: which files are the slices of one volume, before a pixel is read.

A unit is read and taken together: the slices of a volume in their order, or one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.content import content_of
from scoutview.ingest.files import SourceFile, check_place, sniff
from scoutview.ingest.planes import DISCRIMINATORS, GEOMETRY, SliceHeader, slice_header
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules
from scoutview.ingest.stacks import Stack, affine_of, assemble

_KEYWORDS = ("SpecificCharacterSet", "SOPInstanceUID", "SOPClassUID", "Modality", "NumberOfFrames", "StudyInstanceUID",
             "SeriesInstanceUID", "PatientID", *GEOMETRY, *DISCRIMINATORS)  # fmt: skip

HEADER_BYTES = 2**18
"""Read first of a file in an archive or a bucket: the pixels of nearly every file begin before."""


@dataclass(frozen=True)
class Place:
    """Where a slice lies in its volume.

    stack: what names the volume in the source. index: from 0, in the direction of the normal; height: mm along it;
    spacing: mm to the next slice; affine: see `scoutview.ingest.stacks.affine_of`. flags: see `Stack`.
    """

    stack: str
    index: int
    height: float
    spacing: float
    affine: tuple[float, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A file to read; place: of its slice, when it is one of a volume of several files."""

    file: SourceFile
    place: Place | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unit:
    """Files that are taken together. With a reason they are refused without being read."""

    jobs: tuple[Job, ...]
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class IndexEntry:
    """series: what must be equal in the files of one series; "" for a file that is read by itself."""

    file: SourceFile
    series: str = ""
    instance: str = ""
    header: SliceHeader | None = None


def index_files(files: list[SourceFile]) -> list[IndexEntry]:
    """Read the headers of files; a file that is no slice, or is malformed, is left to be read by itself."""
    return [_entry(file) for file in files]


def _entry(file: SourceFile) -> IndexEntry:
    try:
        check_place(file)
        header = _header(file)
        if header is None:
            return IndexEntry(file)
        frames = header_of.integer_of(header, "NumberOfFrames", 1)
    except RefusedError:  # reading it says why
        return IndexEntry(file)
    _, instance = header_of.identity_of(header)
    uid = header_of.identifier_of(header, "SeriesInstanceUID")
    if header_of.text_of(header, "Modality").upper() not in ("CT", "MR") or frames > 1 or not uid or not instance:
        return IndexEntry(file)
    names = ("PatientID", "StudyInstanceUID", "SOPClassUID")
    series = "\0".join([uid, *(header_of.identifier_of(header, name) for name in names)])
    # A mosaic is a volume by itself, and a survey is refused when it is read.
    kinds = header_of.words_of(header, "ImageType")
    if "MOSAIC" in kinds or "LOCALIZER" in kinds:
        return IndexEntry(file)
    return IndexEntry(file, series, instance, slice_header(header))


def _header(file: SourceFile) -> Any:
    """The header of a DICOM file, None of another one; of one that must be copied, its beginning is enough."""
    with content_of(file, most=HEADER_BYTES) as path:
        if sniff(path) != "dicom":
            return None
        if path == file.path or header_of.is_whole(path, HEADER_BYTES):
            return header_of.read_header(path, _KEYWORDS)
    with content_of(file) as path:
        return header_of.read_header(path, _KEYWORDS)


def units_of(entries: Iterable[IndexEntry], rules: Rules) -> list[Unit]:
    """Units in the order of their first files; every file is in exactly one.

    The second file of one SOP Instance UID is a unit of its own, to be refused as the copy or conflict it is.
    """
    units: list[tuple[int, Unit]] = []
    series: dict[str, list[tuple[int, IndexEntry]]] = {}
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        if not entry.series or entry.instance in seen:
            units.append((number, Unit((Job(entry.file),))))
            continue
        seen.add(entry.instance)
        series.setdefault(entry.series, []).append((number, entry))
    for numbered in series.values():
        units += _units_of_series(numbered, rules)
    return [unit for _, unit in sorted(units, key=lambda numbered: numbered[0])]


def _units_of_series(numbered: Sequence[tuple[int, IndexEntry]], rules: Rules) -> list[tuple[int, Unit]]:
    entries = [entry for _, entry in numbered]
    headers = [entry.header for entry in entries if entry.header is not None]
    stacks, loose = assemble(headers, rules.gaps == "allow")
    units = [
        (numbered[index][0], Unit((Job(entries[index].file, flags=_flags_of_loose(headers[index])),)))
        for index in loose
    ]
    for stack in stacks:
        unit = _unit_of_stack(entries, headers, stack)
        units.append((min(numbered[index][0] for index in stack.members), unit))
    return units


def _flags_of_loose(header: SliceHeader) -> tuple[str, ...]:
    return () if header.plane else ("ungeometric",)


def _unit_of_stack(entries: Sequence[IndexEntry], headers: Sequence[SliceHeader], stack: Stack) -> Unit:
    if stack.reason:
        return Unit(tuple(Job(entries[index].file) for index in stack.members), stack.reason, stack.detail)
    uid, _, _ = entries[stack.members[0]].series.partition("\0")
    name = f"{uid}\0{entries[stack.members[0]].instance}"
    places = places_of(headers, stack, name)
    return Unit(tuple(Job(entries[index].file, place) for index, place in zip(stack.members, places, strict=True)))


def places_of(headers: Sequence[SliceHeader], stack: Stack, name: str) -> list[Place]:
    """The place of each slice of a stack, in order. name: what names the volume in the source."""
    return [
        Place(name, index, height, stack.spacing, affine_of(headers, stack, index), stack.flags)
        for index, height in enumerate(stack.heights)
    ]
