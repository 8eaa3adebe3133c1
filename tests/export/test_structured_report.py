"""DICOM SR of predictions: read back with pydicom and highdicom, checked against the source files, and by dciodvfy."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from scoutview import predict
from scoutview.export.structured_report import Algorithm, ReportedImage, code_of, make_report
from scoutview.phantoms import write_phantoms
from scoutview.tasks.prediction import FoundBox

pytest.importorskip("highdicom", reason="the extra dicom-sr is not installed")
CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A radiograph, and the two slices of a CT."""
    folder = tmp_path_factory.mktemp("files")
    write_phantoms(folder, patients={"xray": 1, "ct": 1}, seed=1, size=128, slices=2)
    before = os.environ.get("SCOUTVIEW_KEY")
    os.environ["SCOUTVIEW_KEY"] = "a key that is for these tests only"
    yield folder / "images"
    if before is None:
        del os.environ["SCOUTVIEW_KEY"]
    else:
        os.environ["SCOUTVIEW_KEY"] = before


def items(content: Any) -> Iterator[Any]:
    """All content items below a data set, depth first."""
    for item in content.get("ContentSequence", []):
        yield item
        yield from items(item)


def groups(report: Any) -> list[Any]:
    return [item for item in items(report) if item.ConceptNameCodeSequence[0].CodeValue == "125007"]


def values(group: Any) -> dict[tuple[str, str], float]:
    return {
        (item.ConceptNameCodeSequence[0].CodeValue, item.ConceptNameCodeSequence[0].CodingSchemeDesignator): float(
            item.MeasuredValueSequence[0].NumericValue
        )
        for item in items(group)
        if item.ValueType == "NUM"
    }


def problems(path: Path) -> list[str]:
    """What dciodvfy calls an error; skips where it is not installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


def test_a_report_per_study_says_what_the_table_says_of_its_images(runs: Path, files: Path, tmp_path: Path) -> None:
    predict(runs / "classes", files, out=tmp_path, sr=True)
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = {(row["source"], row["class"]): float(row["probability"]) for row in rows}
    sources = [
        (path.relative_to(files).as_posix(), pydicom.dcmread(path)) for path in files.rglob("*") if path.is_file()
    ]
    reports = [pydicom.dcmread(path) for path in sorted((tmp_path / "sr").glob("*.dcm"))]
    assert sorted(path.stem for path in (tmp_path / "sr").glob("*.dcm")) == sorted({row["study"] for row in rows})
    assert len(reports) == 2
    reported = 0
    for report in reports:
        assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
        assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        own = {source.SOPInstanceUID: (name, source) for name, source in sources
               if source.StudyInstanceUID == report.StudyInstanceUID}  # fmt: skip
        evidence = {
            instance.ReferencedSOPInstanceUID: instance.ReferencedSOPClassUID
            for study in report.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for instance in series.ReferencedSOPSequence
        }
        assert evidence == {uid: source.SOPClassUID for uid, (_, source) in own.items()}
        for group in groups(report):
            (image,) = [item for item in items(group) if item.ValueType == "IMAGE"]
            name, source = own[image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
            assert (report.PatientID, str(report.PatientName)) == (source.PatientID, str(source.PatientName))
            expected = {(code_of(f"probability of {k}"), "99SCOUTVIEW"): table[name, k] for k in CLASSES}
            assert values(group) == pytest.approx(expected)
            texts = [item.TextValue for item in items(group) if item.ValueType == "TEXT"]
            assert "scoutview classification" in texts
            reported += 1
    assert reported == len(sources) == 3
    again = {path.name: pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "sr").glob("*.dcm")}
    predict(runs / "classes", files, out=tmp_path, sr=True)
    assert {path.name: pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "sr").glob("*.dcm")} == again


def test_reports_of_files_are_valid_dicom(runs: Path, files: Path, tmp_path: Path) -> None:
    predict(runs / "classes", files, out=tmp_path, sr=True)
    for path in (tmp_path / "sr").glob("*.dcm"):
        assert problems(path) == []


def test_boxes_are_regions_of_their_image_in_its_pixels(files: Path, tmp_path: Path) -> None:
    from highdicom import sr

    path = next(path for path in files.rglob("*") if path.is_file() and pydicom.dcmread(path).Modality == "DX")
    header = pydicom.dcmread(path, stop_before_pixels=True)
    del header.StudyID, header.PatientBirthDate  # a careless file
    boxes = tuple(FoundBox("mass", 0.9 - 0.1 * k, (4.5 * k, 3.0, 4.5 * k + 20.25, 47.5)) for k in range(7))
    image = ReportedImage(header, None, (0.9, 0.0), boxes)
    report = make_report([image], Algorithm("chest_detection", "0" * 64, ("mass", "a name of more than sixteen")))
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    read = sr.srread(tmp_path / "report.dcm")
    regions = read.content.get_planar_roi_measurement_groups()
    assert len(regions) == 5
    for region, box in zip(regions, boxes, strict=False):
        left, top, right, bottom = box.corners
        expected = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        np.testing.assert_allclose(region.roi.value, expected)
        assert region.reference_type.meaning == "Image Region"
        assert (region.finding_type.value, region.finding_type.meaning) == (code_of("mass"), "mass")
        (measured,) = region.get_measurements()
        assert measured.value == pytest.approx(box.score)
        assert measured.unit.value == "1"
    scoords = [item for item in items(pydicom.dcmread(tmp_path / "report.dcm")) if item.ValueType == "SCOORD"]
    selected = {item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in scoords}
    assert selected == {header.SOPInstanceUID}
    assert problems(tmp_path / "report.dcm") == []
