"""SIIM, NODE21, VinDr-CXR: run lengths, boxes of two conventions, readers, images known to be negative."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_files import said, take, values, write, write_pictures
from source_files import picture, write_dicom

from scoutview.commands.label import label
from scoutview.errors import UsageError
from scoutview.ingest.layouts import Box, find_layout, node21, siim_pneumothorax, vindr_cxr
from scoutview.store import Store, bitmap_of, image_labels, read_annotations

SIIM_HEADER = "ImageId, EncodedPixels\n"


def naive_runs(text: str) -> np.ndarray:
    """The decoding as its publishers describe it, pixel by pixel: down the columns, offsets from the last run."""
    mask = np.zeros((1024, 1024), dtype=bool)
    numbers = [int(number) for number in text.split()]
    place = 0
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        place += offset
        for _ in range(length):
            mask[place % 1024, place // 1024] = True
            place += 1
    return mask


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 900)), min_size=1, max_size=20))
def test_runs_are_decoded_as_a_loop_does(runs: list[tuple[int, int]]) -> None:
    text = " ".join(f"{offset} {length}" for offset, length in runs)
    np.testing.assert_array_equal(siim_pneumothorax.decode_runs(text), naive_runs(text))


@pytest.mark.parametrize("text", ["1 2 3", "5 -1", "a b", "1048570 20"])
def test_wrong_runs(text: str) -> None:
    with pytest.raises(UsageError, match="row 7: EncodedPixels are not pairs"):
        siim_pneumothorax.decode_runs(text, "row 7")


def test_siim_masks_of_several_rows(tmp_path: Path) -> None:
    source = tmp_path / "siim"
    for seed, uid in enumerate(("1.2.1", "1.2.2", "1.2.3")):
        place = source / "dicom-images-train" / f"9.{seed}" / f"8.{seed}" / f"{uid}.dcm"
        write_dicom(place, picture(1024, 1024, 255, seed), "CR", SOPInstanceUID=uid)
    # (column 2, rows 3-6), and 3 columns further on (column 5, rows 3-4) in a row of its own.
    write(source, {"train-rle.csv": f"{SIIM_HEADER}1.2.1, {2 * 1024 + 3} 4\n1.2.2,-1\n1.2.1,{5 * 1024 + 3} 2\n"})
    assert find_layout(source) == ("siim_pneumothorax", "train-rle.csv has the columns ImageId and EncodedPixels")
    store, _ = take(source, tmp_path / "store", layout="siim_pneumothorax")
    first, second, third = (f"dicom-images-train/9.{n}/8.{n}/1.2.{n + 1}.dcm" for n in range(3))
    known = said(store, first, second, third)
    assert values(known[first]) == {"pneumothorax": "1"}
    assert values(known[second]) == {"pneumothorax": "0"}
    assert known[third] == []  # not in the table: unknown
    masks = [item for item in known[first] if item.kind == "mask"]
    assert [(item.x, item.y, item.width, item.height) for item in masks] == [(2, 3, 1, 4), (5, 3, 1, 2)]
    assert np.argwhere(bitmap_of(masks[1], 1024, 1024)).tolist() == [[3, 5], [4, 5]]
    (absent,) = [item for item in known[second] if item.kind == "mask"]
    assert (absent.value, absent.mask) == ("0", None)


def test_siim_contradiction(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"image 1\.2 has a mask and a -1"):
        list(siim_pneumothorax.read(write(tmp_path, {"train-rle.csv": f"{SIIM_HEADER}1.2,-1\n1.2,0 3\n"})))


NODE21 = """,height,img_name,label,width,x,y
0,10,n0001.png,1,12,3,20
1,5,n0001.png,1,6,30,2
2,0,c0002.png,0,0,0,0
"""


def test_node21_boxes(tmp_path: Path) -> None:
    source = write(tmp_path / "node21", {"cxr_images/proccessed_data/metadata.csv": NODE21})
    first, _, negative = node21.read(source)
    assert first.boxes == (Box("nodule", 3, 20, 12, 10),)
    assert (negative.labels, negative.no_boxes) == ({"nodule": "0"}, ("nodule",))
    names = tuple(f"cxr_images/proccessed_data/images/{name}.png" for name in ("n0001", "c0002"))
    write_pictures(source, *names)
    store, _ = take(source, tmp_path / "store", layout="node21")
    known = said(store, *names)
    boxes = sorted((item.x, item.y, item.width, item.height) for item in known[names[0]] if item.kind == "box")
    assert boxes == [(3, 20, 12, 10), (30, 2, 6, 5)]
    assert values(known[names[0]]) == {"nodule": "1"}
    (absent,) = [item for item in known[names[1]] if item.kind == "box"]
    assert (absent.value, absent.x) == ("0", None)
    assert label(tmp_path / "store", source).boxes == 2  # found by itself


VINDR = {
    "annotations/annotations_train.csv": "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
    "aa,R8,Nodule/Mass,10,5,22.5,15\naa,R9,Nodule/Mass,11,5,22,16\nbb,R8,No finding,,,,\n",
    "annotations/annotations_test.csv": "image_id,class_name,x_min,y_min,x_max,y_max\ncc,ILD,1,2,4,8\n",
    "annotations/image_labels_train.csv": "image_id,rad_id,ILD,Nodule/Mass,Other diseases,No finding\n"
    "aa,R8,0,1,0,0\naa,R9,0,1,1,0\naa,R10,0,0,0,1\nbb,R8,0,0,0,1\n",
    "annotations/image_labels_test.csv": "image_id,ILD,Nodule/Mass,Other disease,No finding\ncc,1,0,0,0\n",
}


def test_vindr_readers_and_corners(tmp_path: Path) -> None:
    source = write(tmp_path / "vindr", VINDR)
    write_pictures(source, "train/aa.png", "train/bb.png", "test/cc.png")
    store, _ = take(source, tmp_path / "store", layout="vindr_cxr")
    known = said(store, "train/aa.png", "train/bb.png", "test/cc.png")
    aa = known["train/aa.png"]
    boxes = {item.reader: item for item in aa if item.kind == "box" and item.value == "1"}
    assert [boxes["R8"].x, boxes["R8"].y, boxes["R8"].width, boxes["R8"].height] == [10, 5, 12.5, 10]
    assert [boxes["R9"].x, boxes["R9"].y, boxes["R9"].width, boxes["R9"].height] == [11, 5, 11, 11]
    searched = {(item.name, item.reader) for item in aa if item.kind == "box" and item.value == "0"}
    assert searched == {("ILD", "R8"), ("ILD", "R9"), ("ILD", "R10"), ("Nodule/Mass", "R10")}
    assert values(aa, "R9")["Other disease"] == "1"  # one name in both parts
    assert values(known["test/cc.png"], "") == {"ILD": "1", "Nodule/Mass": "0", "Other disease": "0", "No finding": "0"}
    labels = image_labels(read_annotations(store), store.rows())
    target = aa[0].target
    assert labels["Nodule/Mass"][target] == "1"  # two of three
    assert labels["Other disease"][target] == "0"  # one of three
    (negative,) = {item.target for item in known["train/bb.png"]}
    assert labels["No finding"][negative] == "1"


def test_vindr_of_the_competition(tmp_path: Path) -> None:
    text = (
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
        "aa,No finding,14,R11,,,,\naa,Cardiomegaly,3,R12,691,1375,1653,1831\naa,ILD,5,R12,1,2,3,4\n"
    )
    none, some = vindr_cxr.read(write(tmp_path, {"train.csv": text}))
    assert (none.reader, none.boxes, none.no_boxes) == ("R11", (), ("Cardiomegaly", "ILD"))
    assert none.labels == {"Cardiomegaly": "0", "ILD": "0", "No finding": "1"}
    assert some.boxes == (Box("Cardiomegaly", 691, 1375, 962, 456), Box("ILD", 1, 2, 2, 2))
    assert some.labels == {"Cardiomegaly": "1", "ILD": "1", "No finding": "0"}
    assert find_layout(tmp_path) == ("vindr_cxr", "train.csv has the columns class_name and rad_id")


def test_boxes_outside_of_their_image_are_counted_and_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "node21", {"metadata.csv": NODE21.replace("30,2", "48,2")})
    write_pictures(source, "images/n0001.png", "images/c0002.png")
    store, summary = take(source, tmp_path / "store", layout="node21")
    assert len([item for item in read_annotations(Store.open(store.path)) if item.x is not None]) == 1
    assert any("1 boxes or masks do not fit the size of their image" in note for note in summary.notes)
    assert any("metadata.csv row 3" in note for note in summary.notes)
