"""OpenI, Shenzhen and Montgomery, MURA, bone age: labels in reports, in names of files and folders, in months."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layout_files import said, take, values, write, write_mask, write_pictures

from scoutview.errors import UsageError
from scoutview.ingest.layouts import find_layout, mura, openi, rsna_bone_age, tuberculosis
from scoutview.store import bitmap_of


def report(number: int, codes: list[str], *images: str) -> str:
    majors = "".join(f"<major>{code}</major>" for code in codes)
    parents = "".join(f'<parentImage id="{image}"><figureId>F1</figureId></parentImage>' for image in images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{number}"/>'
        f"<MeSH>{majors}<automatic>nodule</automatic></MeSH>{parents}</eCitation>"
    )


def test_openi_reports(tmp_path: Path) -> None:
    write(
        tmp_path / "ecgen-radiology",
        {
            "1.xml": report(1, ["Cardiomegaly/mild", "Lung/hypoinflation"], "CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4"),
            "2.xml": report(2, ["normal"], "CXR2_IM-0652-1001"),
            "10.xml": report(10, ["No Indexing"], "CXR10_IM-0002-1001"),
        },
    )
    first, second, normal, uncoded = openi.read(tmp_path)
    assert first.labels == {"Cardiomegaly": "1", "Lung": "1", "normal": "0"}
    assert second.labels == first.labels
    assert normal.labels == {"Cardiomegaly": "0", "Lung": "0", "normal": "1"}
    assert uncoded.labels == {}
    assert first.files == ("CXR1_1_IM-0001-3001", "1_IM-0001-3001")
    assert (first.patient, second.patient, uncoded.patient) == ("CXR1", "CXR1", "CXR10")
    assert find_layout(tmp_path) == ("openi", "it holds ecgen-radiology/")


def test_openi_damaged_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1\.xml is not well-formed XML"):
        list(openi.read(write(tmp_path, {"ecgen-radiology/1.xml": "<eCitation>"})))


def test_montgomery_masks_and_labels_in_names(tmp_path: Path) -> None:
    source = tmp_path / "MontgomerySet"
    write_pictures(source, "CXR_png/MCUCXR_0001_0.png", "CXR_png/MCUCXR_0104_1.png")
    write(source, {"ClinicalReadings/MCUCXR_0104_1.txt": "Patient's Sex: F\nabnormal"})
    left = np.zeros((40, 52), dtype=np.uint8)
    left[10:30, 30:45] = 255
    left[12, 31] = 0
    write_mask(source / "ManualMask" / "leftMask" / "MCUCXR_0001_0.png", left)
    write_mask(source / "ManualMask" / "rightMask" / "MCUCXR_0001_0.png", left[:, ::-1])
    assert find_layout(source)[0] == "tuberculosis"
    store, summary = take(source / "CXR_png", tmp_path / "store", labels=source)
    assert any("read as tuberculosis" in note for note in summary.notes)
    known = said(store, "MCUCXR_0001_0.png", "MCUCXR_0104_1.png")
    assert values(known["MCUCXR_0001_0.png"]) == {"tuberculosis": "0"}
    assert values(known["MCUCXR_0104_1.png"]) == {"tuberculosis": "1"}
    masks = {item.name: item for item in known["MCUCXR_0001_0.png"] if item.kind == "mask"}
    assert (masks["left lung"].x, masks["left lung"].y) == (30, 10)
    assert (masks["left lung"].width, masks["left lung"].height) == (15, 20)
    np.testing.assert_array_equal(bitmap_of(masks["left lung"], 40, 52), left > 0)
    np.testing.assert_array_equal(bitmap_of(masks["right lung"], 40, 52), left[:, ::-1] > 0)


def test_shenzhen_names(tmp_path: Path) -> None:
    write_pictures(tmp_path, "CXR_png/CHNCXR_0001_0.png", "CXR_png/CHNCXR_0662_1.png", "CXR_png/Thumbs.png")
    assert [(entry.files[0], entry.labels) for entry in tuberculosis.read(tmp_path)] == [
        ("CHNCXR_0001_0.png", {"tuberculosis": "0"}), ("CHNCXR_0662_1.png", {"tuberculosis": "1"})
    ]  # fmt: skip


MURA = {
    "train_labeled_studies.csv": "MURA-v1.1/train/XR_SHOULDER/patient00001/study1_positive/,1\n"
    "MURA-v1.1/train/XR_WRIST/patient00001/study1_negative/,0\n",
    "train_image_paths.csv": "MURA-v1.1/train/XR_SHOULDER/patient00001/study1_positive/image1.png\n"
    "MURA-v1.1/train/XR_SHOULDER/patient00001/study1_positive/image2.png\n"
    "MURA-v1.1/train/XR_WRIST/patient00001/study1_negative/image1.png\n",
    "valid_labeled_studies.csv": "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/,1\n",
    "valid_image_paths.csv": "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image1.png\n",
}


def test_mura_studies_without_headers(tmp_path: Path) -> None:
    source = write(tmp_path / "MURA-v1.1", MURA)
    entries = list(mura.read(source))
    assert [(entry.labels["abnormal"], entry.labels["body_part"], entry.split) for entry in entries] == [
        ("1", "shoulder", "train"), ("1", "shoulder", "train"), ("0", "wrist", "train"), ("1", "wrist", "validation")
    ]  # fmt: skip
    names = [entry.files[0] for entry in entries]
    write_pictures(source, *names)
    store, _ = take(source, tmp_path / "store", layout="mura")
    known = said(store, *names)
    assert [values(known[name])["abnormal"] for name in names] == ["1", "1", "0", "1"]
    assert len({row.patient for row in store.rows()}) == 2  # one number in two body parts is one patient


def test_mura_wrong_lines(tmp_path: Path) -> None:
    source = write(tmp_path, {**MURA, "valid_labeled_studies.csv": "valid/XR_WRIST/patient11185/study1_positive/\n"})
    with pytest.raises(UsageError, match=r"valid_labeled_studies.csv row 1 is not a path and 0 or 1"):
        list(mura.read(source))
    write(source, {"valid_labeled_studies.csv": "valid/XR_WRIST/patient9/study1_positive/,1\n"})
    with pytest.raises(UsageError, match=r"is not in valid_labeled_studies.csv"):
        list(mura.read(source))


def test_bone_age_in_three_files(tmp_path: Path) -> None:
    source = write(
        tmp_path / "bones",
        {
            "boneage-training-dataset.csv": "id,boneage,male\n1377,180,False\n1378,12,True\n",
            "Validation Dataset.csv": "Image ID,male,Bone Age (months)\n1386,TRUE,30\n",
            "boneage-test-dataset.csv": "Case ID,Sex\n4360,M\n",
        },
    )
    train, other, validation, test = rsna_bone_age.read(source)
    assert train.labels == {"bone_age": "180", "sex": "female"}
    assert other.labels == {"bone_age": "12", "sex": "male"}
    assert validation.labels == {"bone_age": "30", "sex": "male"}
    assert test.labels == {"sex": "male"}
    assert [entry.split for entry in (train, validation, test)] == ["train", "validation", "test"]
    names = ("boneage-training-dataset/boneage-training-dataset/1377.png", "boneage-test-dataset/4360.png")
    write_pictures(source, *names)  # nested once or twice
    store, _ = take(source, tmp_path / "store", layout="rsna_bone_age")
    known = said(store, *names)
    assert values(known[names[0]]) == {"bone_age": "180", "sex": "female"}
    assert values(known[names[1]]) == {"sex": "male"}
