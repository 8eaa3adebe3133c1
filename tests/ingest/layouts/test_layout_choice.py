"""Which layout a folder is of, and what goes with what on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout_files import take, write, write_pictures

from scoutview.__main__ import main
from scoutview.commands.label import label
from scoutview.errors import UsageError
from scoutview.ingest import run_ingest
from scoutview.ingest.layouts import LAYOUTS, find_layout
from scoutview.store import Store, read_annotations

NODE = "height,img_name,label,width,x,y\n5,a.png,1,6,1,2\n0,b.png,0,0,0,0\n"


def test_a_folder_that_looks_like_none_or_several(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks like none of the layouts brainmetshare, brats_mets"):
        find_layout(tmp_path)
    write(tmp_path, {"metadata.csv": NODE, "reads.csv": "name,R1:ICH\n"})
    with pytest.raises(UsageError, match=r"several layouts .cq500: reads.csv has .*; node21: metadata.csv has"):
        find_layout(tmp_path)
    assert find_layout(tmp_path, "node21") == ("node21", "it was named")
    with pytest.raises(UsageError, match="no layout 'node20': known are"):
        find_layout(tmp_path, "node20")


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    assert LAYOUTS[name].recognise(tmp_path) == ""
    with pytest.raises(UsageError) as caught:
        list(LAYOUTS[name].read(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"metadata.csv": NODE})
    write_pictures(source, "images/a.png", "images/b.png")
    store, _ = take(source, tmp_path / "store")
    for path, options, message in (
        (source / "metadata.csv", {"layout": "node21"}, "which is no folder"),
        (source, {"columns": ["label"]}, "no CSV file of labels"),
    ):
        with pytest.raises(UsageError, match=message):
            label(store.path, path, **options)
    with pytest.raises(UsageError, match="given with 2 sources: add --labels"):
        run_ingest([source / "images", source], tmp_path / "other", layout="node21", modality="xray")
    with pytest.raises(UsageError, match="without a labels file"):
        run_ingest([source], tmp_path / "other", label_columns=["label"], modality="xray")


def test_nothing_of_the_data_set_is_in_the_store(tmp_path: Path) -> None:
    source = write(tmp_path / "node", {"metadata.csv": NODE})
    write_pictures(tmp_path / "elsewhere", "c.png")
    store, _ = take(tmp_path / "elsewhere", tmp_path / "store")
    with pytest.raises(UsageError, match=r"none of the 2 entries .* \(first: a.png, b.png\): ingest the images"):
        label(store.path, source)
    empty = write(tmp_path / "empty", {"metadata.csv": NODE.splitlines()[0] + "\n"})
    with pytest.raises(UsageError, match="holds no labels"):
        label(store.path, empty)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "node", {"metadata.csv": NODE})
    write_pictures(source, "images/a.png", "images/b.png")
    out = str(tmp_path / "store")
    words = ["ingest", str(source), "--out", out, "--layout", "node21", "--modality", "xray", "--workers", "1"]
    assert main(words) == 0
    before = read_annotations(Store.open(out))
    assert {item.kind for item in before} == {"label", "box"}
    assert main(["label", out, str(source), "--json"]) == 0
    assert read_annotations(Store.open(out)) == before
    printed = capsys.readouterr().out
    assert "note: read as node21: metadata.csv has the columns img_name, label, x, y, width, height" in printed
    assert printed.splitlines()[-1] == '{"labels": 2, "boxes": 1, "masks": 0, "targets": 2}'


def test_two_patients_for_one_file(tmp_path: Path) -> None:
    header = "Image Index,Finding Labels,Follow-up #,Patient ID\n"
    rows = "0_0.png,No Finding,0,1\n0_0.png,No Finding,0,2\n"
    source = write(tmp_path / "nih", {"Data_Entry_2017.csv": header + rows})
    write_pictures(source, "0_0.png")
    with pytest.raises(UsageError, match=r"row 3 gives 0_0.png another patient"):
        take(source, tmp_path / "store", layout="chestxray14")


def test_a_name_of_several_files_is_left_out_and_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "node", {"metadata.csv": NODE})
    write_pictures(source, "one/a.png", "two/a.png", "one/b.png")
    store, summary = take(source, tmp_path / "store", layout="node21")
    assert len({item.target for item in read_annotations(store)}) == 1
    assert any("1 entries have the name of several files: a.png" in note for note in summary.notes)
