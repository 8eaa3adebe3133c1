"""Label files: joins, refusals, what may enter the store; boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from source_files import picture, write_dicom, write_png

from scoutview.commands.inspect import inspect
from scoutview.commands.label import label
from scoutview.errors import UsageError
from scoutview.ingest import run_ingest
from scoutview.store import Store, image_labels, read_annotations, split_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for number in range(6):
        write_png(folder / "images" / f"p{number}.png", picture(seed=number))
    write_png(folder / "one" / "twice.png", picture(seed=10))
    write_png(folder / "two" / "twice.png", picture(seed=11))
    write_dicom(folder / "film.dcm", picture(seed=12), "DX", SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2")
    images = np.stack([picture(20, 24, seed=seed) for seed in range(3)])
    np.savez(folder / "many.npz", images=images)
    return folder


@pytest.fixture
def store(source: Path, tmp_path: Path) -> Path:
    run_ingest([source], tmp_path / "store", modality="xray", workers=1)
    return tmp_path / "store"


def csv(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def values(store: Path, name: str) -> list[str]:
    opened = Store.open(store)
    return sorted(image_labels(read_annotations(opened), opened.rows()).get(name, {}).values())


@pytest.mark.parametrize(
    "file", ["images/p3.png", "./images/p3.png", "images\\p3.png", "p3.png", "p3", "elsewhere/p3.png"]
)
def test_a_file_is_named_by_path_name_or_stem(store: Path, tmp_path: Path, file: str) -> None:
    label(store, csv(tmp_path, f"file,finding\n{file},1\n"))
    rows = {row.image: row for row in Store.open(store).rows()}
    (annotation,) = read_annotations(Store.open(store))
    from scoutview.images import pixel_sha256
    from scoutview.ingest import read_file

    expected = pixel_sha256(read_file(tmp_path / "source" / "images" / "p3.png", "xray")[0].pixels)
    assert rows[annotation.target].pixel_sha256 == expected


def test_ids_and_parts_of_files(store: Path, tmp_path: Path) -> None:
    rows = Store.open(store).rows()
    film = next(row for row in rows if row.source_format == "dicom")
    image = next(row.image for row in rows if row.source_format == "picture")
    label(store, csv(tmp_path, f"id,file,finding\n1.2.3,,instance\n1.2,,series\n{image},,own\n,many.npz#2,part\n"))
    targets = {item.value: item.target for item in read_annotations(Store.open(store))}
    assert targets["instance"] == film.image
    assert targets["series"] == film.series
    assert targets["own"] == image
    npz = sorted(row.offset_in_shard for row in rows if row.source_format == "npz")
    part = next(row for row in rows if row.image == targets["part"])
    assert part.offset_in_shard == npz[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("file,finding\n", "no rows"),
        ("image,finding\np1.png,1\n", "no column file or id .it has image, finding."),
        ("file,finding\nnone.png,1\n", "no row of .* names an image"),
        ("file,finding\np1.png,1\np1.png,0\n", "rows 2 and 3 .*finding as '1' and '0'"),
        ("file,finding\ntwice.png,1\n", "row 2: 'twice.png' is the name of several files"),
        ("file,finding\np1.png,1,3\n", "row 2 has 3 cells where the header has 2"),
        ("file,finding,finding\np1.png,1,3\n", "two columns 'finding'"),
        ("file,split\np1.png,holdout\n", "row 2: split 'holdout'"),
        ('file,finding\n"p1.png,1\n', "not a well-formed CSV|names an image"),
    ],
)
def test_wrong_label_files(store: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        label(store, csv(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert read_annotations(Store.open(store)) == []


def test_wrong_columns_encodings_and_secrets(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = csv(tmp_path, "file,finding\np1.png,1\n")
    with pytest.raises(UsageError, match="no column 'grade': it has file, finding"):
        label(store, good, columns=["grade"])
    with pytest.raises(UsageError, match="cannot be read"):
        label(store, tmp_path / "none.csv")
    bad = tmp_path / "latin.csv"
    bad.write_bytes("file,finding\np1.png,M\xfcller\n".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8"):
        label(store, bad)
    with pytest.raises(UsageError, match="not a store"):
        label(tmp_path, good)
    monkeypatch.setenv("SCOUTVIEW_KEY", "another secret, quite another")
    with pytest.raises(UsageError, match="another pseudonym secret"):
        label(store, good)


def test_blanks_repeats_unknown_rows_and_byte_order_marks(store: Path, tmp_path: Path) -> None:
    text = "\ufefffile;finding;grade\np1.png;1;\np1.png;1;\nnone.png;1;2\np2.png;;3\n"
    summary = label(store, csv(tmp_path, text))
    assert summary.labels == 2
    assert values(store, "finding") == ["1"]
    assert values(store, "grade") == ["3"]
    notes = " ".join(summary.notes)
    assert "1 label rows name no image of the store: row 4 'none.png'" in notes
    assert "1 label rows repeat an earlier one" in notes


def test_columns_that_may_identify_are_left_out(store: Path, tmp_path: Path) -> None:
    header = "file,patient_name,note,age,finding"
    lines = [f"p{number}.png,Doe {number},n{number},{40 + number}.5,{number % 2}" for number in range(6)]
    many = [f"gone{number}.png,Doe,text {number},{number},1" for number in range(30)]
    summary = label(store, csv(tmp_path, "\n".join([header, *lines, *many])))
    names = {item.name for item in read_annotations(Store.open(store))}
    assert names == {"age", "finding"}
    assert "patient_name" in summary.notes[0]
    assert "note" in summary.notes[1]
    label(store, csv(tmp_path, "\n".join([header, *lines])), columns=["note"])
    assert "note" in {item.name for item in read_annotations(Store.open(store))}


def test_later_labels_replace_earlier_ones_by_reader(store: Path, tmp_path: Path) -> None:
    label(store, csv(tmp_path, "file,finding\np1.png,1\np2.png,1\n"))
    label(store, csv(tmp_path, "file,finding\np1.png,0\n"))
    assert values(store, "finding") == ["0", "1"]
    before = len(list((store / "annotations").iterdir()))
    label(store, csv(tmp_path, "file,finding\np1.png,0\n"))
    assert len(list((store / "annotations").iterdir())) == before
    label(store, csv(tmp_path, "file,finding,reader\np1.png,1,a\np1.png,0,b\n"))
    assert {item.reader for item in read_annotations(Store.open(store))} == {"", "a", "b"}


def test_patients_and_splits_at_ingest(source: Path, tmp_path: Path) -> None:
    text = "file,patient,split,finding\n" + "".join(
        f"images/p{number}.png,{number // 2},{'val' if number < 2 else 'train'},{number % 2}\n" for number in range(6)
    )
    out = tmp_path / "store"
    table = csv(tmp_path, text + "many.npz#0,77,test,1\nmany.npz#1,77,train,1\n")
    summary = run_ingest([source], out, labels=table, modality="xray", workers=1)
    store = Store.open(out)
    rows = store.rows()
    assert len({row.patient for row in rows}) == 3 + 1 + 4  # three pairs; two of the npz; the rest alone
    splits = split_of(rows, read_annotations(store))
    assert sorted(splits.values()).count("validation") >= 2
    assert any("1 patients lie in more than one split" in note for note in summary.notes)
    for row in rows:
        others = {other.split for other in rows if other.patient == row.patient}
        assert len(others) == 1
    assert run_ingest([source], out, labels=table, modality="xray", workers=1).counts() == summary.counts()
    with pytest.raises(UsageError, match="under other patients"):
        run_ingest([source], out, labels=csv(tmp_path, text.replace(",0,", ",5,")), modality="xray", workers=1)
    with pytest.raises(UsageError, match="name of several files"):
        run_ingest([source], out, labels=csv(tmp_path, "file,patient\ntwice.png,1\n"), modality="xray", workers=1)


def coco(folder: Path, **changes: object) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "images/p1.png"}, {"id": 2, "file_name": "p2.png"}],
        "categories": [{"id": 7, "name": "nodule"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [3, 4, 10.5, 6]},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [20, 4, 5, 6]},
        ],
        **changes,
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def test_boxes(store: Path, tmp_path: Path) -> None:
    assert label(store, coco(tmp_path)).boxes == 2
    boxes = [item for item in read_annotations(Store.open(store)) if item.kind == "box"]
    assert [(item.x, item.y, item.width, item.height) for item in boxes if item.value == "1"] == [
        (3.0, 4.0, 10.5, 6.0), (20.0, 4.0, 5.0, 6.0)
    ]  # fmt: skip
    (searched,) = [item for item in boxes if item.value == "0"]
    assert searched.x is None
    assert inspect(store)["labels"]["boxes"] == {"nodule": {"xray": 2}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"image_id": 1, "category_id": 7, "bbox": [40, 4, 20, 6]}]}, "annotation 1: the box"),
        ({"annotations": [{"image_id": 1, "category_id": 7, "bbox": [4, 4, 0, 6]}]}, "annotation 1: the box"),
        ({"annotations": [{"image_id": 1, "category_id": 7}]}, "annotation 1: bbox is not four numbers"),
        ({"annotations": [{"image_id": 9, "category_id": 7, "bbox": [1, 1, 2, 2]}]}, "does not list"),
        ({"images": [{"id": 1, "file_name": "none.png"}]}, "no image of"),
        ({"categories": 5}, "not a COCO file"),
    ],
)
def test_wrong_boxes(store: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        label(store, coco(tmp_path, **changes))


def test_inspect_counts(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label(store, csv(tmp_path, "file,finding\np1.png,1\np2.png,0\np3.png,0\n"))
    (tmp_path / "source" / "note.txt").write_text("text")
    write_png(tmp_path / "source" / "copy.png", picture(seed=0))
    run_ingest([tmp_path / "source"], store, modality="xray", workers=1)
    capsys.readouterr()
    content = inspect(store, json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == content
    rows = Store.open(store).rows()
    xray = content["modalities"]["xray"]
    assert xray["images"] == len(rows) == 13
    assert xray["patients"] == len({row.patient for row in rows})
    assert (xray["shortest_side"], xray["longest_side"]) == (20, 52)
    assert xray["exact_duplicates"] == 1
    assert content["duplicates"][0]["images"] == 2
    assert content["labels"]["values"] == {"finding": {"xray": {"0": 2, "1": 1}}}
    assert content["quarantine"]["not_an_image"]["files"] == 1
    assert sum(entry["images"] for entry in content["splits"]["xray"].values()) == 13
