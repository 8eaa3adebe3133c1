"""ChestX-ray14, CheXpert, MIMIC-CXR, PadChest: miniature label tables with the traps of the real ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from layout_files import said, take, values, write, write_pictures

from scoutview.commands.label import label
from scoutview.errors import UsageError
from scoutview.ingest.layouts import Box, chestxray14, chexpert, find_layout, mimic_cxr, padchest
from scoutview.store import UNCERTAIN, image_labels, read_annotations, split_of

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
)
NIH = {
    "Data_Entry_2017_v2020.csv": NIH_HEADER
    + "00000001_000.png,Cardiomegaly|Emphysema,0,1,57,M,PA,2682,2749,0.143,0.143,\n"
    + "00000001_001.png,No Finding,1,1,58,M,PA,2894,2729,0.143,0.143,\n"
    + "00000002_000.png,Infiltration,0,2,80,M,PA,2500,2048,0.171,0.171,\n",
    "BBox_List_2017.csv": "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    "00000002_000.png,Infiltrate,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661,,,\n",
    "train_val_list.txt": "00000001_000.png\n00000001_001.png\n",
    "test_list.txt": "00000002_000.png\n",
}


def test_chestxray14_labels_boxes_and_splits(tmp_path: Path) -> None:
    first, second, third, box = chestxray14.read(write(tmp_path, NIH))
    assert first.files == ("00000001_000.png",)
    assert first.patient == second.patient == "1"
    assert {name for name, value in first.labels.items() if value == "1"} == {"Cardiomegaly", "Emphysema"}
    assert len(first.labels) == 14
    assert set(second.labels.values()) == {"0"}
    assert (first.split, third.split) == ("train_validation", "test")
    # The bracketed header has four cells, the name of the finding another spelling.
    assert box.boxes == (Box("Infiltration", 225.084745762712, 547.019216763771, 86.7796610169491, 79.1864406779661),)
    assert third.labels["Infiltration"] == "1"
    assert find_layout(tmp_path) == ("chestxray14", "it holds Data_Entry_2017_v2020.csv")


def test_chestxray14_in_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "nih", NIH)
    names = ("images_001/images/00000001_000.png", "images_001/images/00000001_001.png",
             "images_002/images/00000002_000.png")  # fmt: skip
    write_pictures(source, *names)
    store, summary = take(source, tmp_path / "store", layout="chestxray14")
    rows = {row.image: row for row in store.rows()}
    assert len({row.patient for row in rows.values()}) == 2
    known = said(store, *names)
    assert values(known[names[0]])["Cardiomegaly"] == "1"
    assert values(known[names[1]])["Cardiomegaly"] == "0"
    splits = split_of(rows.values(), read_annotations(store))
    for name in names[:2]:  # the official part that has no validation keeps the store's own choice of validation
        row = rows[known[name][0].target]
        assert splits[row.image] == ("validation" if row.split == "validation" else "train")
    assert splits[known[names[2]][0].target] == "test"
    # The pictures are not of 1024 x 1024 px, which the box is about.
    assert not [item for item in known[names[2]] if item.kind == "box"]
    assert any("1 boxes or masks do not fit" in note for note in summary.notes)
    capsys.readouterr()
    assert label(tmp_path / "store", source).labels == 3 * 14
    assert "read as chestxray14: it holds Data_Entry" in capsys.readouterr().out


CHEXPERT_HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(chexpert.FINDINGS)


def chexpert_row(path: str, **findings: str) -> str:
    return ",".join([path, "Female", "68", "Frontal", "AP", *(findings.get(n, "") for n in chexpert.FINDINGS)])


def chexpert_files() -> dict[str, str]:
    row = "CheXpert-v1.0-small/{}/view1_frontal.jpg"
    train = [
        chexpert_row(row.format("train/patient00001/study1"), Edema="1.0", Pneumonia="-1.0", Fracture="0.0"),
        chexpert_row(row.format("train/patient00002/study1"), Edema="0.0"),
    ]
    valid = [chexpert_row(row.format("valid/patient64541/study1"), Edema="1.0")]
    return {
        "train.csv": "\n".join([CHEXPERT_HEADER, *train]),
        "valid.csv": "\n".join([CHEXPERT_HEADER, *valid]),
    }


def test_chexpert_keeps_uncertain_open_and_blank_unknown(tmp_path: Path) -> None:
    first, second, third = chexpert.read(write(tmp_path, chexpert_files()))
    assert first.labels == {"Edema": "1", "Pneumonia": UNCERTAIN, "Fracture": "0", "view": "AP"}
    assert second.labels == {"Edema": "0", "view": "AP"}
    assert (first.patient, first.split) == ("patient00001", "train")
    assert third.split == "validation"
    assert first.files == ("train/patient00001/study1/view1_frontal.jpg",)
    assert find_layout(tmp_path)[0] == "chexpert"


def test_chexpert_images_of_one_name_are_told_apart(tmp_path: Path) -> None:
    source = write(tmp_path / "renamed", chexpert_files())
    names = ("train/patient00001/study1/view1_frontal.jpg", "train/patient00002/study1/view1_frontal.jpg",
             "valid/patient64541/study1/view1_frontal.jpg")  # fmt: skip
    write_pictures(source, *names)
    store, _ = take(source, tmp_path / "store", layout="chexpert")
    known = said(store, *names)
    assert [values(known[name])["Edema"] for name in names] == ["1", "0", "1"]
    rows = store.rows()
    assert len({row.patient for row in rows}) == 3
    labels = image_labels(read_annotations(store), rows)
    assert labels["Pneumonia"] == {}  # the only reading left it open
    splits = split_of(rows, read_annotations(store))
    assert splits[known[names[2]][0].target] == "validation"


def test_names_that_fit_no_image_alone_are_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "chexpert", chexpert_files())
    write_pictures(tmp_path / "elsewhere", "study1/view1_frontal.jpg")  # of whom, its path does not say
    store, _ = take(tmp_path / "elsewhere", tmp_path / "store")
    summary = label(tmp_path / "store", source)
    assert read_annotations(store) == []
    assert any("3 entries fit an image that others fit as well" in note for note in summary.notes)


def test_chexpert_from_a_source_above_its_folder(tmp_path: Path) -> None:
    source = write(tmp_path / "all" / "chexpert", chexpert_files())
    write_pictures(source, "train/patient00001/study1/view1_frontal.jpg", "valid/patient64541/study1/view1_frontal.jpg")
    store, _ = take(tmp_path / "all", tmp_path / "store")
    summary = label(tmp_path / "store", source)
    name = "chexpert/train/patient00001/study1/view1_frontal.jpg"
    assert values(said(store, name)[name])["Fracture"] == "0"
    assert any("1 entries name no image of the store" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CHEXPERT_HEADER.replace("Edema,", "") + "\n", "has no column 'Edema'"),
        (CHEXPERT_HEADER + "\n" + chexpert_row("a/b.jpg"), "train.csv row 2: the path 'a/b.jpg'"),
        (CHEXPERT_HEADER + "\n" + chexpert_row("x/train/p/s/v.jpg", Edema="yes"), "row 2: Edema 'yes' is none of"),
    ],
)
def test_wrong_chexpert_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(chexpert.read(write(tmp_path, {"train.csv": text})))


def mimic_files(folder: Path) -> Path:
    write(folder, {})
    folder.mkdir(exist_ok=True)
    texts = {
        "split": "dicom_id,study_id,subject_id,split\naa-1,500,100,train\naa-2,500,100,train\nbb-1,501,101,validate\n",
        "chexpert": "subject_id,study_id,Edema,No Finding,Pneumonia\n100,500,1.0,,-1.0\n101,501,,1.0,\n",
        "negbio": "subject_id,study_id,Edema,No Finding,Pneumonia\n100,500,0.0,,\n",
        "metadata": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition\n"
        "aa-1,100,500,CHEST (PA AND LAT),PA\naa-2,100,500,CHEST (PA AND LAT),LATERAL\nbb-1,101,501,CHEST,\n",
    }
    for name, text in texts.items():
        (folder / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_mimic_cxr_studies_become_images_by_two_labellers(tmp_path: Path) -> None:
    entries = list(mimic_cxr.read(mimic_files(tmp_path)))
    found = {(entry.files[0], entry.reader): entry for entry in entries}
    assert found["aa-2", "chexpert"].labels == {"Edema": "1", "Pneumonia": UNCERTAIN}
    assert found["aa-2", "negbio"].labels == {"Edema": "0"}
    assert ("bb-1", "negbio") not in found
    assert found["bb-1", "chexpert"].labels == {"No Finding": "1"}
    assert [found[name, ""].labels for name in ("aa-1", "aa-2", "bb-1")] == [{"view": "PA"}, {"view": "LATERAL"}, {}]
    assert [found[name, ""].split for name in ("aa-1", "bb-1")] == ["train", "validation"]
    assert found["aa-1", ""].patient == found["aa-2", ""].patient == "100"
    assert find_layout(tmp_path) == ("mimic_cxr", "it holds mimic-cxr-2.0.0-split.csv.gz")


def test_mimic_cxr_needs_labels(tmp_path: Path) -> None:
    mimic_files(tmp_path)
    for name in ("chexpert", "negbio"):
        (tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz").unlink()
    with pytest.raises(UsageError, match="add at least one"):
        list(mimic_cxr.read(tmp_path))


PADCHEST = """,ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,\
Projection,MethodProjection,MethodLabel,Report,Labels
0,1_a.png,0,20140915,s1,p1,1930.0,F,POSTEROANTERIOR,PA,x,Physician,r,"['pleural effusion', ' cardiomegaly ']"
1,1_b.png,0,20140915,s1,p1,1930.0,F,LATERAL,L,x,RNN_model,r,['normal']
2,2_a.png,7,20150915,s2,p2,1950.0,M,ANTEROPOSTERIOR,AP_horizontal,x,Physician,r,"['exclude', 'cardiomegaly']"
3,3_a.png,9,20150915,s3,p3,1950.0,M,,PA,x,Physician,r,
"""


def test_padchest_lists(tmp_path: Path) -> None:
    folder = write(tmp_path, {"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv": PADCHEST})
    first, second, third, fourth = padchest.read(folder)
    assert first.labels == {
        "view": "PA", "label_method": "Physician", "normal": "0", "pleural effusion": "1", "cardiomegaly": "1"
    }  # fmt: skip
    assert second.labels["normal"] == "1"
    assert (second.labels["cardiomegaly"], second.labels["label_method"]) == ("0", "RNN_model")
    # Not read for findings: no zeros. Without a list: nothing known.
    assert third.labels == {
        "view": "AP_horizontal", "label_method": "Physician", "cardiomegaly": "1"
    }  # fmt: skip
    assert fourth.labels == {"view": "PA", "label_method": "Physician"}
    assert [entry.patient for entry in (first, second, third)] == ["p1", "p1", "p2"]
    assert find_layout(tmp_path)[0] == "padchest"


def test_padchest_refuses_what_is_no_list(tmp_path: Path) -> None:
    text = PADCHEST.replace("['normal']", "__import__('os')")
    with pytest.raises(UsageError, match=r"row 3: Labels .* is no list"):
        list(padchest.read(write(tmp_path, {"PADCHEST_chest_x_ray_images_labels_160K.csv": text})))
