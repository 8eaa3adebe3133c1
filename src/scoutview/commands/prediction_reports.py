"""The SR files of `scoutview predict --sr`, study by study, from the log and the headers of the source files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom

from scoutview.commands.prediction_units import PredictionUnit
from scoutview.export.prediction_log import PredictionLog
from scoutview.export.structured_report import Algorithm, ReportedImage, write_report
from scoutview.ingest import RefusedError
from scoutview.ingest.content import content_of
from scoutview.tasks.prediction import FoundBox, Predictor


def write_reports(
    log: PredictionLog, units: Sequence[PredictionUnit], predictor: Predictor, sha256: str, out: Path
) -> dict[str, int]:
    """Write out/sr/STUDY.dcm, named by the study's pseudonymous key; returns counts of reports and of files without.

    Without are those that are no DICOM, say no study, or went away since they were predicted.
    """
    algorithm = Algorithm(predictor.task, sha256, predictor.classes)
    by_name = {unit.name: unit for unit in units if unit.file is not None}
    studies: dict[str, list[str]] = {}
    left = 0
    for entry in log.entries(unit.name for unit in units):
        if entry["images"] and entry["name"] in by_name and entry["images"][0]["dicom"] and entry["images"][0]["study"]:
            studies.setdefault(entry["images"][0]["study"], []).append(entry["name"])
        elif entry["images"]:
            left += 1
    written = 0
    for study, names in studies.items():
        images: list[ReportedImage] = []
        for entry in log.entries(names):
            header = _header(by_name[entry["name"]])
            if header is None:
                left += 1
            else:
                images += [_image(header, image) for image in entry["images"]]
        if images:
            write_report(out / "sr" / f"{study}.dcm", images, algorithm)
            written += 1
    return {"reports": written, **({"files without a report": left} if left else {})}


def _header(unit: PredictionUnit) -> Any:
    """The elements of a file before its pixels; None if it is there no more."""
    assert unit.file is not None
    try:
        with content_of(unit.file) as path:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            header.SOPInstanceUID, header.StudyInstanceUID, header.SOPClassUID  # noqa: B018
            return header
    except (RefusedError, OSError, AttributeError, pydicom.errors.InvalidDicomError):
        return None


def _image(header: Any, image: dict[str, Any]) -> ReportedImage:
    many = int(header.get("NumberOfFrames") or 1) > 1
    boxes = tuple(FoundBox(box["class"], box["score"], tuple(box["box"])) for box in image["boxes"])
    return ReportedImage(header, int(image["index"]) + 1 if many else None, tuple(image["probabilities"]), boxes)
