"""Identifying values planted in every text element of a header: none occurs in any byte of the store."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from source_files import picture, write_dicom

from scoutview.commands.inspect import inspect
from scoutview.errors import RunError, UsageError
from scoutview.ingest import run_ingest
from scoutview.ingest.privacy import search_store
from scoutview.phantoms.traps import sampled, series, write_all
from scoutview.store import Store
from scoutview.store.seal import with_checksum

TEXTS = {
    "AE": "{}AE", "LO": "Secret {} Lo", "LT": "long {} text", "PN": "Name{}^Given{}", "SH": "Sh{}", "ST": "st {} x",
    "UC": "Uc{}", "UR": "http://h/{}", "UT": "ut {} y", "DA": "19{:06d}", "DT": "19{:06d}101010",
}  # fmt: skip
DECIDES = ("RescaleType",)
"""Texts without which an image is not taken."""


def planted(path: Path, number: int) -> list[str]:
    """Write an own value into every text element that the dictionary knows; returns the values."""
    dataset = pydicom.dcmread(path)
    values = []
    for place, (tag, entry) in enumerate(sorted(DicomDictionary.items())):
        vr, keyword = entry[0], keyword_for_tag(tag)
        if (
            vr not in TEXTS
            or tag >> 16 in (0x0000, 0x0002, 0x0004, 0xFFFE)
            or entry[3] == "Retired"
            or keyword in ("", *DECIDES)
        ):
            continue
        mark = 100_000 + (number * 1009 + place) % 800_000
        text = TEXTS[vr].format(*([mark] * TEXTS[vr].count("{")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(dataset, keyword, text)
        values.append(str(mark))
    item = Dataset()
    item.PatientID = f"Nested{number}Id"
    dataset.OtherPatientIDsSequence = Sequence([item])
    block = dataset.private_block(0x0011, "PRIVATE OF SOMEONE", create=True)
    block.add_new(0x01, "LO", f"Hidden{number}Person")
    dataset.save_as(path)
    return [*values, f"Nested{number}Id", f"Hidden{number}Person"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for number, modality in enumerate(("DX", "CT", "MR", "US")):
        path = write_dicom(folder / f"{number}.dcm", picture(highest=250 if modality == "US" else 3000, seed=number)
                           .astype(np.uint8 if modality == "US" else np.uint16), modality)  # fmt: skip
        planted(path, number)
    write_all(folder / "series", sampled(series()), PatientID="VOLUMEPERSON77", PatientName="Volumeperson^Givenname")
    return folder


def test_nothing_planted_is_found(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run_ingest([source], tmp_path / "store", workers=1)
    assert (summary.taken, summary.volumes) == (11, 1)
    report = search_store(tmp_path / "store", [source])
    assert report.headers == 11
    assert report.values > 2000
    assert report.findings == ()
    content = inspect(tmp_path / "store", privacy=[str(source)])
    assert content["privacy"]["findings"] == []
    assert "0 found" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["store.json", "shard", "catalog", "name", "annotations"])
def test_a_leak_is_found_wherever_it_is(tmp_path: Path, source: Path, where: str) -> None:
    run_ingest([source], tmp_path / "store", workers=1)
    store = tmp_path / "store"
    if where == "store.json":
        content = json.loads((store / "store.json").read_text())
        (store / "store.json").write_text(json.dumps(with_checksum({**content, "a": "Hidden2Person"})))
    elif where == "shard":
        shard = next(iter((store / "shards" / "mr").glob("*.tar")))
        data = bytearray(shard.read_bytes())
        data[700:713] = b"Hidden2Person"
        shard.write_bytes(bytes(data))
    elif where == "catalog":
        from dataclasses import replace

        from scoutview.store.catalog import rows_to_table, write_parquet

        rows = [replace(row, view="xx Hidden2Person") for row in Store.open(store).rows()]
        write_parquet(rows_to_table(rows), store / "catalog" / "merged" / "x.parquet")
    elif where == "name":
        (store / "Hidden2Person.txt").touch()
    else:
        from scoutview.store import Annotation, add_annotations

        add_annotations(Store.open(store), [Annotation("x", "label", "comment", "seen by hidden2person today")])
    report = search_store(store, [source])
    assert len(report.findings) >= 1
    assert all("Hidden2Person" not in finding.element for finding in report.findings)
    with pytest.raises(RunError, match="do not share it"):
        inspect(store, privacy=[str(source)])


def test_without_headers_nothing_is_proven(tmp_path: Path, source: Path) -> None:
    run_ingest([source], tmp_path / "store", workers=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="holds no DICOM file"):
        search_store(tmp_path / "store", [tmp_path / "empty"])


def test_the_time_of_change_of_a_file_is_not_stored(tmp_path: Path, source: Path) -> None:
    run_ingest([source], tmp_path / "store", workers=1)
    for row in Store.open(tmp_path / "store").rows():
        assert len(row.file_stamp) == 32
        assert set(row.file_stamp) <= set("0123456789abcdef")
