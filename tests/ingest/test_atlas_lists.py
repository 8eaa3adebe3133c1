"""The lists of an atlas keep images out of the next store, and what a header says cannot act on its page."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pages import Elements
from samples import textured
from source_files import write_dicom

from scoutview.commands.atlas import atlas
from scoutview.errors import UsageError
from scoutview.ingest import Pseudonyms, run_ingest
from scoutview.ingest.exclusion import read_list
from scoutview.store import Store
from scoutview.store.duplicates import Lookalikes

EVIL = "</script><img src=x onerror=alert(1)>"
SECRET = Pseudonyms(b"a secret of these tests")


def radiograph(seed: int) -> np.ndarray:
    return (textured(np.random.default_rng(seed), 160, 176) * 4000).astype(np.uint16)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine radiographs; the first two a second time with noise, the first in half the size, too."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(9):
        write_dicom(folder / f"{number}.dcm", radiograph(number), "DX", PatientID=f"P{number}", Manufacturer=EVIL)
    noise = np.random.default_rng(0).integers(0, 40, (160, 176)).astype(np.uint16)
    for number in range(2):
        write_dicom(folder / f"copy{number}.dcm", radiograph(number) + noise, "DX", PatientID=f"Q{number}")
    half = radiograph(0).reshape(80, 2, 88, 2).mean((1, 3)).round().astype(np.uint16)
    write_dicom(folder / "half.dcm", half, "DX", PatientID="R0")
    names = [path.name for path in sorted(folder.glob("*.dcm"))]
    (folder / "labels.csv").write_text("\n".join(["file,finding", *(f'{name},"{EVIL}"' for name in names)]))
    return folder


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the source and its atlas."""
    folder = tmp_path_factory.mktemp("made")
    files = sorted(source.glob("*.dcm"))
    run_ingest(files, folder / "store", labels=source / "labels.csv", workers=1, pseudonyms=SECRET)
    atlas("none", folder / "store", out=folder / "atlas")
    return folder


def entries(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_the_listed_copies_no_pair_is_left(made: Path, source: Path, tmp_path: Path) -> None:
    store = Store.open(made / "store")
    rows = {row.image: row for row in store.rows()}
    listed = entries(made / "atlas" / "near_duplicates.csv")
    pairs = {
        frozenset((pair.first.image, pair.second.image)) for pair in Lookalikes.of(store, [*rows.values()]).pairs()
    }
    assert len(listed) == 3
    for entry in listed:
        assert frozenset((entry["image"], entry["like"])) in pairs
        assert entry["pixel_sha256"] == rows[entry["image"]].pixel_sha256
    assert 80 in {rows[entry["image"]].rows for entry in listed}
    lists = [made / "atlas" / "near_duplicates.csv"]
    summary = run_ingest(sorted(source.glob("*.dcm")), tmp_path / "clean", exclude=lists, workers=1, pseudonyms=SECRET)
    assert (summary.taken, summary.reasons) == (9, {"excluded": 3})
    clean = Store.open(tmp_path / "clean")
    assert {row.image for row in clean.rows()} == set(rows) - {entry["image"] for entry in listed}
    assert not list(Lookalikes.of(clean, clean.rows()).pairs())
    details = {entry["detail"] for entry in clean.quarantined()}
    assert details == {"a list of what is excluded names its pixels"}


def test_outliers_stay_out_and_stand_in_the_list(made: Path, source: Path, tmp_path: Path) -> None:
    content = json.loads((made / "atlas" / "atlas.json").read_text())
    names = content["images"]["image"]
    listed = entries(made / "atlas" / "outliers.csv")
    assert [entry["image"] for entry in listed] == [names[entry["image"]] for entry in content["outliers"]]
    density = [np.mean(row) for row in content["images"]["cosines"]]
    assert any(int(np.argmin(density)) == entry["image"] for entry in content["outliers"])
    files = sorted(source.glob("*.dcm"))
    summary = run_ingest(
        files, tmp_path / "clean", exclude=[made / "atlas" / "outliers.csv"], workers=1, pseudonyms=SECRET
    )
    assert summary.reasons == {"excluded": len(listed)}
    with pytest.raises(UsageError, match=f"already holds {len(listed)} images"):
        run_ingest(files, made / "store", exclude=[made / "atlas" / "outliers.csv"], workers=1, pseudonyms=SECRET)


def test_what_headers_and_labels_say_is_inert(made: Path) -> None:
    html = (made / "atlas" / "atlas.html").read_text(encoding="utf-8")
    elements = Elements(html)
    assert elements.open == []
    assert [tag for tag, _ in elements.found].count("script") == 2
    assert "img" not in {tag for tag, _ in elements.found}
    assert EVIL not in html
    columns = json.loads(re.findall(r'id="data">(.*?)</script>', html, re.S)[0])["columns"]
    values = {column["name"]: column["values"] for column in columns}
    assert "manufacturer" not in values  # which ingest takes only where it is a known vendor
    assert values["label: finding"] == [EVIL]


def test_a_list_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"\ufeffpixel_sha256,image\n {'AB' * 32},x\n", encoding="utf-8")
    assert read_list(path) == ["ab" * 32]
    path.write_text("image\nabc\n")
    with pytest.raises(UsageError, match="no column pixel_sha256"):
        read_list(path)
    path.write_text("pixel_sha256,image\nabc,x\n")
    with pytest.raises(UsageError, match="entry 1: pixel_sha256 has to be 64 hex digits, not 'abc'"):
        read_list(path)
    path.write_bytes(b"pixel_sha256\n\xff\xfe\n")
    with pytest.raises(UsageError, match="cannot be read as a CSV file"):
        read_list(path)
    with pytest.raises(UsageError, match="cannot be read as a CSV file"):
        read_list(tmp_path / "absent.csv")
