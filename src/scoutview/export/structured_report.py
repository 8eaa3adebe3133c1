"""Findings as a DICOM SR (PS3.16 TID 1500, Comprehensive 3D SR): one measurement report per study.

It is about the patient, study and images of its source files, by their own identifiers: it goes back to where they came
from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoutview import __version__
from scoutview.export.extras import needed
from scoutview.export.overlay import DRAWN
from scoutview.files import replacing
from scoutview.tasks.prediction import FoundBox

SCHEME = "99SCOUTVIEW"
"""Of the codes that name the classes of a model; private, as every coding scheme that begins with 99."""
_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True)
class ReportedImage:
    """header: of its DICOM file, without pixels. frame: from 1, None for the only one. boxes: by falling score."""

    header: Any
    frame: int | None
    probabilities: tuple[float, ...]
    boxes: tuple[FoundBox, ...]


@dataclass(frozen=True)
class Algorithm:
    """What found it: the task of the model, the SHA-256 of its weights, its classes."""

    task: str
    sha256: str
    classes: tuple[str, ...]


def code_of(name: str) -> str:
    """The code value of a class, the same in every report: C and 12 hex digits of its name's SHA-256."""
    return f"C{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def uid_of(*parts: str) -> str:
    """A UID that is a function of its parts, so that a report that is made again is the same instance."""
    return f"2.25.{int(hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32], 16)}"


def make_report(images: Sequence[ReportedImage], algorithm: Algorithm) -> Any:
    """The report of the images of one study, a pydicom dataset.

    Each image is a group of measurements: the probability of each class, of no unit, in [0, 1]. Each of its five best
    boxes is a region of it, a closed polyline in px of the image (PS3.3 C.18.6.1.2: the first pixel spans 0 to 1), with
    its class and score.

    Raises:
        UsageError: if highdicom is not installed.
    """
    needed("highdicom", "dicom-sr")
    from highdicom import sr
    from pydicom.sr.codedict import codes

    identity = sr.AlgorithmIdentification(
        name=f"scoutview {algorithm.task}", version=__version__, parameters=[f"weights {algorithm.sha256}"]
    )
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", algorithm.sha256),
        name="scoutview",
        manufacturer_name="scoutview",
        model_name=algorithm.task,
    )
    context = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    groups: list[Any] = []
    for image in images:
        groups.append(_probabilities(sr, codes, image, algorithm, identity))
        groups += [_region(sr, codes, image, number, identity) for number in range(len(image.boxes[:DRAWN]))]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=context),
        procedure_reported=sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=None,
    )
    evidence = list({str(image.header.SOPInstanceUID): _completed(image.header) for image in images}.values())
    study = str(evidence[0].StudyInstanceUID)
    said = str([(str(i.header.SOPInstanceUID), i.frame, i.probabilities, i.boxes) for i in images])
    report = sr.Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=uid_of("series", study, algorithm.sha256),
        series_number=9000,
        sop_instance_uid=uid_of("instance", study, algorithm.sha256, said),
        instance_number=1,
        manufacturer="scoutview",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    report.SeriesDescription = f"scoutview {algorithm.task}"
    return report


def write_report(path: Path, images: Sequence[ReportedImage], algorithm: Algorithm) -> None:
    """Write the report of a study, atomically."""
    report = make_report(images, algorithm)
    with replacing(path) as temporary:
        report.save_as(temporary, enforce_file_format=True)


def _concept(sr: Any, name: str, meaning: str) -> Any:
    return sr.CodedConcept(code_of(name), SCHEME, meaning[:64])


def _tracking(sr: Any, image: ReportedImage, name: str) -> Any:
    source = str(image.header.SOPInstanceUID)
    return sr.TrackingIdentifier(uid=uid_of("finding", source, str(image.frame), name), identifier=name)


def _probabilities(sr: Any, codes: Any, image: ReportedImage, algorithm: Algorithm, identity: Any) -> Any:
    frames = [image.frame] if image.frame else None
    source = sr.SourceImageForMeasurementGroup(
        str(image.header.SOPClassUID), str(image.header.SOPInstanceUID), referenced_frame_numbers=frames
    )
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(sr, image, "image"),
        algorithm_id=identity,
        source_images=[source],
        measurements=[
            sr.Measurement(
                name=_concept(sr, f"probability of {name}", f"Probability of {name}"),
                value=probability,
                unit=codes.UCUM.NoUnits,
            )
            for name, probability in zip(algorithm.classes, image.probabilities, strict=True)
        ],
    )


def _region(sr: Any, codes: Any, image: ReportedImage, number: int, identity: Any) -> Any:
    box = image.boxes[number]
    left, top, right, bottom = box.corners
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], dtype=np.float64)
    source = sr.SourceImageForRegion(
        str(image.header.SOPClassUID),
        str(image.header.SOPInstanceUID),
        referenced_frame_numbers=[image.frame] if image.frame else None,
    )
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(sr, image, f"{box.name} {number + 1}"),
        referenced_region=sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, corners, source),
        finding_type=_concept(sr, box.name, box.name),
        algorithm_id=identity,
        measurements=[
            sr.Measurement(
                name=_concept(sr, f"score of {box.name}", f"Score of {box.name}"),
                value=box.score,
                unit=codes.UCUM.NoUnits,
            )
        ],
    )


def _completed(header: Any) -> Any:
    """With empty values for the elements that a report must have and a careless file lacks."""
    for keyword in _EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    return header
