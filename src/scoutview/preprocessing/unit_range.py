"""Stored values -> [0, 1].

Calibrated CT goes through one fixed, monotone, piecewise linear curve of Hounsfield units, so that no header
(body part, kernel) decides what the network sees and every tissue keeps some contrast. Everything else, whose
units are arbitrary, is scaled between its own 0.5% and 99.5% percentiles, which the catalog holds: a reduced or
cropped read gets the same map as the whole image.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from scoutview.images import Image
from scoutview.images.slabs import row_slabs


class Calibrated(Protocol):
    """What `preprocess` needs to know of an image: a catalog row has it, and so has a `Calibration`."""

    @property
    def modality(self) -> str:
        """xray, ct, mr or us."""

    @property
    def slope(self) -> float:
        """Physical value = stored value * slope + offset."""

    @property
    def offset(self) -> float:
        """See `slope`."""

    @property
    def units(self) -> str:
        """HU for calibrated CT."""

    @property
    def minimum(self) -> float:
        """The smallest stored value."""

    @property
    def low(self) -> float:
        """The 0.5% percentile of the stored values."""

    @property
    def high(self) -> float:
        """The 99.5% percentile of the stored values."""

    @property
    def maximum(self) -> float:
        """The largest stored value."""


@dataclass(frozen=True)
class Calibration:
    """The calibration of an image that is in no store. Physical = stored * slope + offset; see `Calibrated`."""

    modality: str
    slope: float
    offset: float
    units: str
    minimum: float
    low: float
    high: float
    maximum: float


def calibration_of(image: Image) -> Calibration:
    """Measure an image that was just read, exactly as ingest does."""
    statistics = image.statistics
    return Calibration(
        modality=image.modality,
        slope=image.slope,
        offset=image.offset,
        units=image.units,
        minimum=statistics.minimum,
        low=statistics.low,
        high=statistics.high,
        maximum=statistics.maximum,
    )


@dataclass(frozen=True)
class Preprocessing:
    """hounsfield: HU of the knots of the CT curve, ascending; level: its values there, from 0 to 1."""

    hounsfield: tuple[float, ...] = (-1024.0, -150.0, -20.0, 100.0, 300.0, 2000.0)
    level: tuple[float, ...] = (0.0, 0.2, 0.35, 0.75, 0.85, 1.0)

    def __post_init__(self) -> None:
        if not self.level or not all(abs(value) < 1e30 for value in (*self.hounsfield, *self.level)):
            raise ValueError(f"the CT curve needs finite numbers, not {self}")
        if len(self.hounsfield) != len(self.level) or list(self.hounsfield) != sorted(set(self.hounsfield)):
            raise ValueError(f"the CT curve needs as many levels as ascending HU knots, not {self}")

    def identity(self) -> str:
        """8 hex digits that name these settings; a spectrum is valid for the preprocessing it was made under."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, also after a detour through JSON or YAML."""
        return cls(hounsfield=tuple(values["hounsfield"]), level=tuple(values["level"]))


def preprocess(
    pixels: npt.NDArray[np.int16], calibration: Calibrated, preprocessing: Preprocessing
) -> npt.NDArray[np.float32]:
    """Map stored values [row, column] to float32 [row, column] in [0, 1].

    CT in HU: the curve of `preprocessing`. Otherwise (v - p0.5) / (p99.5 - p0.5), clipped; when these
    percentiles coincide, the extremes take their place; a constant image is 0.
    """
    if calibration.modality == "ct" and calibration.units == "HU":
        # The curve is computed once per stored value, of which there are fewer than pixels.
        lowest = int(pixels.min())
        stored = np.arange(lowest, int(pixels.max()) + 1).astype(np.float32)
        physical = stored * np.float32(calibration.slope) + np.float32(calibration.offset)
        curve = np.interp(physical, preprocessing.hounsfield, preprocessing.level).astype(np.float32)
        shown = np.empty(pixels.shape, dtype=np.float32)
        for slab in row_slabs(*pixels.shape):
            np.take(curve, pixels[slab].astype(np.int32) - lowest, out=shown[slab])
        return shown
    low, high = calibration.low, calibration.high
    if high <= low:
        low, high = calibration.minimum, calibration.maximum
    if high <= low:
        return np.zeros(pixels.shape, dtype=np.float32)
    unit = pixels.astype(np.float32)
    unit -= np.float32(low)
    unit *= np.float32(1.0 / (high - low))
    return np.clip(unit, 0.0, 1.0, out=unit)
