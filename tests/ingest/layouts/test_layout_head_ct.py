"""RSNA haemorrhage and CQ500: labels of slices, and of whole studies by three readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layout_files import said, take, values, write
from source_files import picture, write_dicom

from scoutview.errors import UsageError
from scoutview.ingest.layouts import cq500, find_layout, rsna_ich
from scoutview.store import image_labels, read_annotations

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # the set names slices ID_...


def slice_of(seed: int) -> np.ndarray:
    return (picture(40, 52, 2000, seed) - 1000).astype(np.int16)


def rows_of(image: str, *positive: str) -> list[str]:
    order = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
    return [f"{image}_{name},{int(name in positive)}" for name in order]


def test_rsna_ich_slices_of_which_one_comes_twice(tmp_path: Path) -> None:
    lines = [*rows_of("ID_00000a", "any", "subdural"), *rows_of("ID_00000b"), *rows_of("ID_00000a", "any", "subdural")]
    source = write(tmp_path / "ich", {"stage_2_train.csv": "\n".join(["ID,Label", *lines])})
    assert find_layout(source) == ("rsna_ich", "stage_2_train.csv has the columns ID and Label")
    assert len(list(rsna_ich.read(source))) == 3
    for seed, name in enumerate(("ID_00000a", "ID_00000b")):
        uids = {"StudyInstanceUID": "1.5", "SeriesInstanceUID": "1.6", "PatientID": "ID_p"}
        write_dicom(source / "stage_2_train" / f"{name}.dcm", slice_of(seed), "CT", SOPInstanceUID=name, **uids)
    store, summary = take(source, tmp_path / "store", layout="rsna_ich", modality=None)
    known = said(store, "stage_2_train/ID_00000a.dcm", "stage_2_train/ID_00000b.dcm")
    assert values(known["stage_2_train/ID_00000a.dcm"]) == {
        "any haemorrhage": "1", "epidural": "0", "intraparenchymal": "0", "intraventricular": "0",
        "subarachnoid": "0", "subdural": "1",
    }  # fmt: skip
    assert set(values(known["stage_2_train/ID_00000b.dcm"]).values()) == {"0"}
    assert "6 statements repeat an earlier one" in summary.notes


def test_rsna_ich_contradiction_and_wrong_rows(tmp_path: Path) -> None:
    source = write(
        tmp_path / "ich",
        {"stage_2_train.csv": "\n".join(["ID,Label", *rows_of("ID_a", "any"), *rows_of("ID_b"), *rows_of("ID_a")])},
    )
    write_dicom(source / "ID_a.dcm", slice_of(0), "CT", SOPInstanceUID="ID_a")
    with pytest.raises(UsageError, match=r"row 2 and stage_2_train.csv row 14 .* any haemorrhage as '1' and '0'"):
        take(source, tmp_path / "store", layout="rsna_ich", modality=None)
    with pytest.raises(UsageError, match="row 2: 'ID_a_any' is not image and subtype, or '2' not 0 or 1"):
        list(rsna_ich.read(write(tmp_path / "other", {"stage_2_train.csv": "ID,Label\nID_a_any,2\n"})))


def test_two_sets_with_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    source = write(tmp_path, {"stage_2_train.csv": "ImageId,EncodedPixels\n1.2,-1\n"})
    assert find_layout(source)[0] == "siim_pneumothorax"
    with pytest.raises(UsageError, match=r"no stage_2_train.csv with ID and Label"):
        list(rsna_ich.read(source))


READS = "name,Category,R1:ICH,R1:Fracture,R2:ICH,R2:Fracture,R3:ICH,R3:Fracture\n" \
    "CQ500-CT-0,B1,1,0,1,1,0,0\nCQ500-CT-12,B2,0,0,0,0,1,0\nCQ500-CT-3,B1,0,0,0,0,0,0\n"  # fmt: skip


def test_cq500_reads_of_studies(tmp_path: Path) -> None:
    source = write(tmp_path / "cq500", {"reads.csv": READS})
    place = source / "CQ500CT0 CQ500CT0" / "Unknown Study"
    for number, series in enumerate(("CT Plain", "CT Plain", "CT PLAIN THIN")):
        uids = {
            "StudyInstanceUID": "1.5",
            "SeriesInstanceUID": f"1.5.{len(series)}",
            "SOPInstanceUID": f"1.5.9.{number}",
        }
        write_dicom(place / series / f"CT00000{number}.dcm", slice_of(number), "CT", **uids)
    other = source / "CQ500CT12 CQ500CT12" / "Unknown Study" / "CT 5mm" / "CT000000.dcm"
    write_dicom(other, slice_of(7), "CT", StudyInstanceUID="1.7", SeriesInstanceUID="1.7.1", SOPInstanceUID="1.7.9")
    # A file of another name in the first study, that cannot be taken: the next one tells the study.
    (place / "CT 0" / "CT000000.dcm").parent.mkdir()
    (place / "CT 0" / "CT000000.dcm").write_text("damaged")
    assert find_layout(source) == ("cq500", "reads.csv has the column R1:ICH")
    store, summary = take(source, tmp_path / "store", layout="cq500", modality=None)
    annotations, rows = read_annotations(store), store.rows()
    assert len(annotations) == 2 * (1 + 3 * 2)  # studies, not images
    labels = image_labels(annotations, rows)
    first = {row.image for row in rows if row.study == next(r.study for r in rows if labels["ICH"][r.image] == "1")}
    assert len(first) == 3  # all series of the study
    assert {labels["ICH"][image] for image in first} == {"1"}  # two of three
    assert {labels["Fracture"][image] for image in first} == {"0"}  # one of three
    assert {labels["category"][image] for image in first} == {"B1"}
    (second,) = {row.image for row in rows} - first
    assert (labels["ICH"][second], labels["category"][second]) == ("0", "B2")
    assert any("4 entries name no image of the store: CQ500-CT-3" in note for note in summary.notes)


def test_cq500_wrong_values(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="row 2: '2' is neither 0 nor 1"):
        list(cq500.read(write(tmp_path, {"reads.csv": READS.replace("B1,1,0", "B1,2,0")})))
