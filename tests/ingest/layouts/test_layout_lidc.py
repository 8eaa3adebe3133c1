"""LIDC-IDRI: outlines of four readers in CT, marks in chest films."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_files import said, take, values, write
from matplotlib.path import Path as Polygon
from source_files import picture, write_dicom

from scoutview.errors import UsageError
from scoutview.ingest.layouts import find_layout, lidc_idri
from scoutview.ingest.layouts.outlines import within
from scoutview.store import bitmap_of, image_labels, read_annotations


def edges(points: list[tuple[int, int]]) -> str:
    return "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)


def roi(image: str, points: list[tuple[int, int]], inclusion: str = "TRUE") -> str:
    return (
        f"<roi><imageZposition>-125.0 </imageZposition><imageSOP_UID>{image}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges(points)}</roi>"
    )


def nodule(*rois: str) -> str:
    return f"<unblindedReadNodule><noduleID>1</noduleID>{''.join(rois)}</unblindedReadNodule>"


def ring(x0: int, y0: int, x1: int, y1: int) -> list[tuple[int, int]]:
    """The pixels of a rectangle's edge, one after the other."""
    top, bottom = [(x, y0) for x in range(x0, x1)], [(x, y1) for x in range(x1, x0, -1)]
    return top + [(x1, y) for y in range(y0, y1)] + bottom + [(x0, y) for y in range(y1, y0, -1)]


def ct_message(*sessions: str) -> str:
    reads = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage uid="1.3" xmlns="http://www.nih.gov">'
        "<ResponseHeader><SeriesInstanceUid>1.6</SeriesInstanceUid><StudyInstanceUID>1.5</StudyInstanceUID>"
        f"</ResponseHeader>{reads}</LidcReadMessage>"
    )


polygons = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=3, max_size=7)


@settings(max_examples=200, deadline=None)
@given(polygons)
def test_pixels_within_a_polygon_as_a_loop_finds_them(points: list[tuple[int, int]]) -> None:
    x, y, inside = within(points)
    expected = np.zeros_like(inside)
    closed = [*points, points[0]]
    for row, column in np.ndindex(*inside.shape):
        px, py = column + x, row + y
        crossings, on_edge = 0, False
        for (ax, ay), (bx, by) in pairwise(closed):
            cross = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
            on_edge |= cross == 0 and min(ax, bx) <= px <= max(ax, bx) and min(ay, by) <= py <= max(ay, by)
            if (ay > py) != (by > py):
                crossings += px < ax + (py - ay) * (bx - ax) / (by - ay)
        expected[row, column] = crossings % 2 == 1 and not on_edge
    np.testing.assert_array_equal(inside, expected)


def test_pixels_within_a_convex_polygon_as_matplotlib_finds_them() -> None:
    points = [(3, 0), (9, 2), (12, 8), (6, 13), (0, 7)]
    x, y, inside = within(points)
    grid = [(column + x, row + y) for row, column in np.ndindex(*inside.shape)]
    np.testing.assert_array_equal(inside.ravel(), Polygon([*points, points[0]]).contains_points(grid, radius=-1e-6))


def test_ct_masks_labels_and_silence_of_four_readers(tmp_path: Path) -> None:
    source = tmp_path / "lidc"
    place = source / "LIDC-IDRI-0001" / "01-01-2000-30178" / "3000566.000000-03192"
    for number in range(3):
        pixels = (picture(40, 52, 2000, number) - 1000).astype(np.int16)
        uids = {"StudyInstanceUID": "1.5", "SeriesInstanceUID": "1.6", "SOPInstanceUID": f"1.6.{number}"}
        write_dicom(place / f"00000{number}.dcm", pixels, "CT", **uids)
    # Reader 1: 10..20 x 5..15 with a hole 13..17 x 8..12; a point (below 3 mm) on slice 1.
    # Reader 2: the same nodule without the hole. Reader 3: a non-nodule on slice 2. Reader 4: nothing.
    first = nodule(roi("1.6.0", ring(10, 5, 20, 15)), roi("1.6.0", ring(13, 8, 17, 12), "FALSE"))
    other = "<nonNodule><nonNoduleID>9</nonNoduleID><imageSOP_UID>1.6.2</imageSOP_UID><locus><xCoord>3</xCoord>" \
        "<yCoord>4</yCoord></locus></nonNodule>"  # fmt: skip
    message = ct_message(first + nodule(roi("1.6.1", [(30, 30)])), nodule(roi("1.6.0", ring(10, 5, 20, 15))), other, "")
    write(place, {"068.xml": message})
    assert find_layout(source) == ("lidc_idri", "it holds LIDC-IDRI-0001/")
    store, _ = take(source, tmp_path / "store", layout="lidc_idri", modality=None)
    names = [f"{place.relative_to(source).as_posix()}/00000{number}.dcm" for number in range(3)]
    known = said(store, *names)
    masks = {item.reader: bitmap_of(item, 40, 52) for item in known[names[0]] if item.kind == "mask"}
    whole = np.zeros((40, 52), dtype=bool)
    whole[6:15, 11:20] = True  # the outline itself is outside
    np.testing.assert_array_equal(masks["2"], whole)
    whole[9:12, 14:17] = False
    np.testing.assert_array_equal(masks["1"], whole)
    assert values(known[names[1]], "1") == {"nodule below 3 mm": "1"}
    assert values(known[names[2]], "3") == {"non-nodule": "1"}
    annotations = read_annotations(store)
    series = [item for item in annotations if item.target == store.rows()[0].series]
    assert {(item.kind, item.name, item.value) for item in series if item.reader == "4"} == {
        ("label", "nodule", "0"), ("label", "nodule below 3 mm", "0"), ("label", "non-nodule", "0"),
        ("mask", "nodule", "0"),
    }  # fmt: skip
    labels = image_labels(annotations, store.rows())
    targets = [known[name][0].target for name in names]
    assert [labels["nodule"][target] for target in targets] == ["0", "0", "0"]  # two of four: a tie is absent


def test_three_of_four_readers_are_the_majority(tmp_path: Path) -> None:
    source = tmp_path / "lidc" / "LIDC-IDRI-0002"
    pixels = (picture(40, 52, 2000) - 1000).astype(np.int16)
    write_dicom(source / "1.dcm", pixels, "CT", SeriesInstanceUID="1.6", SOPInstanceUID="1.6.0")
    mark = nodule(roi("1.6.0", ring(10, 5, 20, 15)))
    message = ct_message(mark, mark, mark, "").replace("SeriesInstanceUid", "CTSeriesInstanceUid")
    write(source, {"a.xml": message})
    store, _ = take(source.parent, tmp_path / "store", layout="lidc_idri", modality=None)
    assert list(image_labels(read_annotations(store), store.rows())["nodule"].values()) == ["1"]


def test_marks_in_chest_films(tmp_path: Path) -> None:
    source = tmp_path / "lidc"
    place = source / "LIDC-IDRI-0003" / "film"
    for number in range(2):
        uids = {"SeriesInstanceUID": "2.6", "SOPInstanceUID": f"2.6.{number}"}
        write_dicom(place / f"{number}.dcm", picture(seed=number), "DX", **uids)

    def read(image: str, points: list[tuple[int, int]]) -> str:
        return (
            "<unblindedRead><noduleID>1</noduleID><characteristics><confidence>3</confidence></characteristics>"
            f"<roi><imageSOP_UID>{image}</imageSOP_UID>{edges(points)}</roi></unblindedRead>"
        )

    sessions = (read("2.6.0", ring(10, 5, 20, 15)), read("2.6.0", [(14, 9)]), "")
    reads = "".join(f"<CXRreadingSession>{session}</CXRreadingSession>" for session in sessions)
    write(
        place,
        {
            "film.xml": '<IdriReadMessage uid="2" xmlns="http://www.nih.gov/idri"><ResponseHeader>'
            "<CTSeriesInstanceUid>1.6</CTSeriesInstanceUid><CXRSeriesInstanceUid>2.6</CXRSeriesInstanceUid>"
            f"</ResponseHeader>{reads}</IdriReadMessage>"
        },
    )
    store, _ = take(source, tmp_path / "store", layout="lidc_idri", modality=None)
    names = [f"LIDC-IDRI-0003/film/{number}.dcm" for number in range(2)]
    known = said(store, *names)
    (box,) = [item for item in known[names[0]] if item.kind == "box"]
    assert (box.reader, box.x, box.y, box.width, box.height) == ("1", 11, 6, 9, 9)
    assert values(known[names[0]], "2") == {"nodule": "1"}  # a point has no box
    assert known[names[1]] == []
    labels = image_labels(read_annotations(store), store.rows())["nodule"]
    assert labels[box.target] == "1"
    assert sorted(labels.values()) == ["0", "1"]


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no XML file of LIDC-IDRI"):
        list(lidc_idri.read(write(tmp_path / "a", {"other.xml": "<note/>"})))
    message = ct_message(nodule(roi("1.6.0", [(1, 2), (3, 4)]))).replace("<xCoord>1<", "<xCoord>1.5<")
    with pytest.raises(UsageError, match=r"x\.xml reader 1: an edgeMap without whole"):
        list(lidc_idri.read(write(tmp_path / "b", {"x.xml": message})))
