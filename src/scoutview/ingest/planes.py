"""Where a slice lies in the patient, and what tells it from another slice at the same place (PS3.3 C.7.6.2).

Read from the header alone. Coordinates are the patient's, in mm: x to the left, y to the back, z to the head (LPS).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoutview.ingest import dicom_header as header_of

Vector = tuple[float, float, float]

UNIT_TOLERANCE = 1e-2
"""How far direction cosines may be from unit length and from a right angle; beyond it they are no directions."""


@dataclass(frozen=True)
class Plane:
    """position: centre of the first pixel; across, down: unit directions of increasing column and row index.

    spacing: (row, column) distance of pixel centres in mm.
    """

    position: Vector
    across: Vector
    down: Vector
    spacing: tuple[float, float]

    @property
    def normal(self) -> Vector:
        """Unit vector across x down."""
        return _vector(np.cross(self.across, self.down))

    @property
    def height(self) -> float:
        """The position along the normal, in mm."""
        return float(np.dot(self.position, self.normal))


@dataclass(frozen=True)
class SliceHeader:
    """What series assembly knows of a slice.

    plane: None where the header does not say where the slice lies. shared: must be equal in a volume (size,
    thickness, frame of reference). distinctive: a text per entry of `DISCRIMINATORS`. order: (seconds, instance
    number), which tells repetitions of a place apart, or None.
    """

    plane: Plane | None
    shared: tuple[str, ...]
    distinctive: tuple[str, ...]
    order: tuple[float, float] | None


DISCRIMINATORS = (
    "EchoTime", "ImageType", "TemporalPositionIdentifier", "DiffusionBValue", "InversionTime", "ConvolutionKernel",
    "ContrastBolusAgent", "AcquisitionNumber", "TriggerTime", "DiffusionGradientOrientation",
)  # fmt: skip
"""What may differ between two images of one place, the most telling first."""

GEOMETRY = ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
            "FrameOfReferenceUID", "InstanceNumber", "AcquisitionTime", "ContentTime")  # fmt: skip


def slice_header(header: Any) -> SliceHeader:
    """The geometry of a single-frame image."""
    return described(
        lambda keyword, count: header_of.numbers_of(header, keyword, count),
        lambda keyword: header_of.identifier_of(header, keyword),
    )


def described(numbers: Callable[[str, int], tuple[float, ...] | None], text: Callable[[str], str]) -> SliceHeader:
    """From two ways to look elements up: `count` finite numbers or None, and text, "" when absent."""
    thickness = numbers("SliceThickness", 1)
    return SliceHeader(
        plane=_plane(numbers),
        shared=(
            text("Rows"),
            text("Columns"),
            text("FrameOfReferenceUID"),
            f"{thickness[0]:.1f}" if thickness else "",
        ),
        distinctive=tuple(text(keyword) for keyword in DISCRIMINATORS),
        order=_order(numbers, text),
    )


def _plane(numbers: Callable[[str, int], tuple[float, ...] | None]) -> Plane | None:
    position = numbers("ImagePositionPatient", 3)
    directions = numbers("ImageOrientationPatient", 6)
    spacing = numbers("PixelSpacing", 2)
    if position is None or directions is None or spacing is None or min(spacing) <= 0:
        return None
    across, down = np.array(directions[:3]), np.array(directions[3:])
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1)) > UNIT_TOLERANCE:
        return None
    across, down = across / lengths[0], down / lengths[1]
    if abs(float(across @ down)) > UNIT_TOLERANCE:
        return None
    return Plane(_vector(position), _vector(across), _vector(down), (spacing[0], spacing[1]))


def _order(
    numbers: Callable[[str, int], tuple[float, ...] | None], text: Callable[[str], str]
) -> tuple[float, float] | None:
    number = numbers("InstanceNumber", 1)
    seconds = next(filter(None, (_seconds(text(name)) for name in ("AcquisitionTime", "ContentTime"))), None)
    if number is None and seconds is None:
        return None
    return (seconds or 0.0, number[0] if number else 0.0)


def _seconds(time: str) -> float | None:
    """Seconds since midnight of a DICOM time HHMMSS.FFFFFF."""
    try:
        return int(time[:2]) * 3600 + int(time[2:4]) * 60 + float(time[4:] or 0)
    except ValueError:
        return None


def _vector(values: Any) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
