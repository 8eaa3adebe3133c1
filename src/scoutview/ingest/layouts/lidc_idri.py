"""LIDC-IDRI (Armato et al. 2011, TCIA): lung nodules outlined by four radiologists, in CT and in chest films.

XML files lie in the folders of the series. Root LidcReadMessage: CT, outlines per slice. Root IdriReadMessage: chest
films, one point or an outline. Slices are named by SOP Instance UID; `imageZposition` is not needed, and must not be
used to join: it is rounded, and CTs with two slices at a place exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Box, Entry, Mask
from scoutview.ingest.layouts.outlines import Point, within
from scoutview.ingest.layouts.tables import read_xml, text_of

NODULE, SMALL, OTHER = "nodule", "nodule below 3 mm", "non-nodule"
ROOTS = ("LidcReadMessage", "IdriReadMessage")


@dataclass
class _Image:
    """What one reader marked in one image."""

    labels: dict[str, str] = field(default_factory=dict)
    boxes: list[Box] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    found = next((path for path in sorted(folder.glob("LIDC-IDRI-*")) if path.is_dir()), None)
    return f"it holds {found.name}/" if found else ""


def read(folder: Path) -> Iterator[Entry]:
    """Labels, masks and boxes by reader "1" to "4", whose order is that of the file: they are others in each scan.

    CT: labels nodule (3 mm or more), nodule below 3 mm and non-nodule; masks of the first. What a reader did not
    mark in a series is absent. Chest films: label nodule, and a box where the mark is more than a point.
    """
    files = sorted(folder.rglob("*.xml"))
    found = False
    for path in files:
        root = read_xml(path)
        if root.tag not in ROOTS:
            continue
        found = True
        where = path.relative_to(folder).as_posix()
        if root.tag == "LidcReadMessage":
            yield from _scan(root, where)
        else:
            yield from _film(root, where)
    if not found:
        raise UsageError(f"{folder} has no XML file of LIDC-IDRI in it or below: give the folder of the patients")


def _scan(root: Element, where: str) -> Iterator[Entry]:
    header = root.find("ResponseHeader")
    names = ("SeriesInstanceUid", "CTSeriesInstanceUid")  # the second where a film was read beside the CT
    series = next(filter(None, (text_of(header, name) for name in names)), "") if header is not None else ""
    for number, session in enumerate(root.findall("readingSession"), start=1):
        reader, place = str(number), f"{where} reader {number}"
        images: dict[str, _Image] = {}
        for nodule in session.findall("unblindedReadNodule"):
            _take_nodule(nodule, images, place)
        for mark in session.findall("nonNodule"):
            images.setdefault(text_of(mark, "imageSOP_UID"), _Image()).labels[OTHER] = "1"
        if series:
            labels = dict.fromkeys((NODULE, SMALL, OTHER), "0")
            yield Entry(place, id=series, about="series", reader=reader, labels=labels, no_masks=(NODULE,))
        yield from _entries(images, place, reader)


def _take_nodule(nodule: Element, images: dict[str, _Image], where: str) -> None:
    """An outline is the first pixels outside of a nodule; one with inclusion FALSE is taken out of it.

    A nodule below 3 mm is a single point in a single slice.
    """
    outlines = [(text_of(roi, "imageSOP_UID"), _points(roi, where), _included(roi)) for roi in nodule.findall("roi")]
    if len(outlines) == 1 and len(outlines[0][1]) == 1:
        images.setdefault(outlines[0][0], _Image()).labels[SMALL] = "1"
        return
    for image in dict.fromkeys(image for image, _, _ in outlines):
        marks = images.setdefault(image, _Image())
        marks.labels[NODULE] = "1"
        mine = [(points, included) for other, points, included in outlines if other == image]
        mask = _filled([points for points, included in mine if included], [p for p, included in mine if not included])
        if mask is not None:
            marks.masks.append(mask)


def _filled(outlines: list[list[Point]], holes: list[list[Point]]) -> Mask | None:
    """The pixels within the outlines and not within the holes; None when there are none."""
    points = [point for outline in outlines for point in outline]
    if not points:
        return None
    x, y = min(x for x, _ in points), min(y for _, y in points)
    bitmap = np.zeros((max(y for _, y in points) - y + 1, max(x for x, _ in points) - x + 1), dtype=np.bool_)
    for outline in outlines:
        left, top, inside = within(outline)
        bitmap[top - y : top - y + inside.shape[0], left - x : left - x + inside.shape[1]] |= inside
    for hole in holes:
        left, top, inside = within(hole)
        for row, column in np.argwhere(inside):
            if 0 <= row + top - y < bitmap.shape[0] and 0 <= column + left - x < bitmap.shape[1]:
                bitmap[row + top - y, column + left - x] = False
    return Mask(NODULE, bitmap, x, y, whole=False) if bitmap.any() else None


def _film(root: Element, where: str) -> Iterator[Entry]:
    """The header names the CT of the patient as well: the film is CXRSeriesInstanceUid."""
    series = root.findtext("ResponseHeader/CXRSeriesInstanceUid", "").strip()
    for number, session in enumerate(root.findall("CXRreadingSession"), start=1):
        reader, place = str(number), f"{where} reader {number}"
        images: dict[str, _Image] = {}
        for nodule in session.findall("unblindedRead"):
            for roi in nodule.findall("roi"):
                marks = images.setdefault(text_of(roi, "imageSOP_UID"), _Image())
                marks.labels[NODULE] = "1"
                box = _around(_points(roi, place))
                if box:
                    marks.boxes.append(box)
        if series:
            yield Entry(place, id=series, about="series", reader=reader, labels={NODULE: "0"}, no_boxes=(NODULE,))
        yield from _entries(images, place, reader)


def _around(points: list[Point]) -> Box | None:
    """The box of the pixels within an outline, of the outline itself where it holds none; None for a point."""
    if len(points) < 3:
        return None
    x, y, inside = within(points)
    if not inside.any():
        inside = np.ones_like(inside)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    left, top = x + int(columns[0]), y + int(rows[0])
    return Box(NODULE, left, top, int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1)


def _points(roi: Element, where: str) -> list[Point]:
    """Column and row of each pixel of an outline, from 0."""
    try:
        return [(int(text_of(edge, "xCoord")), int(text_of(edge, "yCoord"))) for edge in roi.findall("edgeMap")]
    except ValueError as error:
        raise UsageError(f"{where}: an edgeMap without whole xCoord and yCoord: restore the original file") from error


def _included(roi: Element) -> bool:
    return text_of(roi, "inclusion").upper() != "FALSE"


def _entries(images: dict[str, _Image], where: str, reader: str) -> Iterator[Entry]:
    for image, marks in images.items():
        yield Entry(
            where,
            id=image,
            reader=reader,
            labels=marks.labels,
            boxes=tuple(marks.boxes),
            masks=tuple(marks.masks),
        )
