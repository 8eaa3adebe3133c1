"""`Image`: stored pixel values with everything that is needed to interpret them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from scoutview.images.hashes import pixel_sha256
from scoutview.images.slabs import row_slabs

Modality = Literal["xray", "ct", "mr", "us"]
"""Radiograph, computed tomography, magnetic resonance, ultrasound."""
MODALITIES: tuple[Modality, ...] = ("xray", "ct", "mr", "us")
"""In the order in which batches and pages have them."""

FLAGS = {
    "burned_in_unknown": "the header does not say whether text is burned into the pixels",
    "cine": "a frame of a film, which was sampled",
    "gantry_tilt": "the slices are sheared: the step between them is not along their normal",
    "gap": "slices of the volume are unevenly spaced, or some are missing",
    "inverted": "stored values were turned, so that high is bright",
    "no_air": "CT without any air: the calibration could not be checked",
    "overlay": "the file has overlay planes; they were not drawn into the pixels",
    "pages_left_out": "pages of the file that are of another size, or marked as reduced copies or masks, were left out",
    "saturated": "more than 60% of the pixels have the lowest or highest value",
    "series_sample": "a volume of a 4D file (time, echoes, diffusion), which was sampled",
    "text_masked": "what lies outside the declared ultrasound regions was blackened",
    "text_unknown": "ultrasound without declared regions: text may be in the pixels",
    "ungeometric": "a slice that does not say where it lies: it is in no volume",
}
"""What the catalog's `flags` may hold, separated by blanks."""

LARGEST_AREA = 2**25
"""px of an image; the largest detectors have 28 million, and such an image takes 0.8 GB while its record is made."""
INT16_MAX = 32767
SHIFT = 32768


@dataclass(frozen=True)
class Image:
    """One 2D image, or one slice of a volume, as it will be stored.

    pixels: int16 [row, column]. Physical value = pixels * slope + offset, in `units`.
    shifted: unsigned values above 32767 were stored minus 32768 (the offset contains the shift);
        reduced-resolution reads of such an image are still right, its sign is only moved.
    units: "HU" for calibrated CT, else "" (arbitrary).
    spacing: (row, column) distance of pixel centres in mm, or None when unknown.
    patient, study, series, instance: identifiers as the source wrote them; they never reach the store,
        only keyed hashes do. Empty means unknown.
    stack: names the volume whose slice this is, within the source; "" for an image by itself.
    slice_index: 0-based order within the volume, or in its file; slice_position: along the normal in mm.
    slice_spacing: mm along the normal to the next slice of the volume.
    affine: row-major 3 x 4 matrix from (column, row, slices after this one, 1) to patient coordinates in mm, x to
        the left, y to the back, z to the head (DICOM's LPS).
    window: what was applied before storing: "" (nothing), "lut", or function, centre and width ("linear 40 80").
    flags: what a user of the image should know, see `FLAGS`.
    source_format: "dicom", "nifti", "metaimage", "nrrd", "picture" or "npz".
    """

    pixels: npt.NDArray[np.int16]
    modality: Modality
    slope: float = 1.0
    offset: float = 0.0
    units: str = ""
    shifted: bool = False
    spacing: tuple[float, float] | None = None
    body_part: str = ""
    view: str = ""
    patient: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    slice_index: int | None = None
    slice_position: float | None = None
    stack: str = ""
    slice_spacing: float | None = None
    affine: tuple[float, ...] | None = None
    window: str = ""
    flags: tuple[str, ...] = ()
    source_format: str = "picture"
    manufacturer: str = ""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.int16:
            raise ValueError(
                f"an image holds int16 [row, column] pixels; these are {self.pixels.dtype} {self.pixels.shape}: "
                "convert them with to_int16"
            )

    @cached_property
    def sha256(self) -> str:
        """Of the stored values and their shape, computed once."""
        return pixel_sha256(self.pixels)

    @cached_property
    def statistics(self) -> Statistics:
        """Of the stored values, measured once."""
        return measure(self.pixels)


@dataclass(frozen=True)
class Levels:
    """How values become int16 pixels: value = pixel * slope + offset.

    shifted: unsigned values were moved down by 32768. lowest: the value of the lowest of 65,535 levels, where the
    values are quantised; None where they are kept.
    """

    slope: float = 1.0
    offset: float = 0.0
    shifted: bool = False
    lowest: float | None = None

    @classmethod
    def between(cls, low: float, high: float, integers: bool, whole: bool) -> Levels:
        """The levels of values from low to high. integers: by their type; whole: by their values.

        Whole numbers of the int16 range are kept as they are. Unsigned 16-bit integers above 32767 are shifted by
        -32768. Anything else (fractions, wider integers) is quantised linearly to 65535 levels of its own range, an
        error of at most range / 131070.
        """
        if whole and low >= -SHIFT and high <= INT16_MAX:
            return cls()
        if integers and low >= 0 and high <= 2 * SHIFT - 1:
            return cls(offset=float(SHIFT), shifted=True)
        minimum, maximum = float(low), float(high)
        slope = max((maximum - minimum) / (2 * SHIFT - 1), float(np.finfo(np.float32).tiny))
        return cls(slope, minimum + SHIFT * slope, lowest=minimum)

    def pixels(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
        """int16 of values [row, column, ...], which lie in the range that the levels were made for."""
        pixels = np.empty(values.shape, dtype=np.int16)
        for slab in row_slabs(values.shape[0], values[0].size):
            pixels[slab] = self._of(values[slab])
        return pixels

    def _of(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
        if self.shifted:
            return (values.astype(np.int32) - SHIFT).astype(np.int16)
        if values.dtype.kind in "iub" and self.lowest is None:
            return values.astype(np.int16)
        exact = values.astype(np.float64)
        if self.lowest is None:
            return np.rint(exact).astype(np.int16)
        return (np.rint((exact - self.lowest) / self.slope) - SHIFT).astype(np.int16)


def to_int16(values: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.int16], float, float, bool]:
    """Return (pixels, slope, offset, shifted) with values = pixels * slope + offset, see `Levels.between`.

    Raises:
        ValueError: if a float is not finite.
    """
    if values.dtype.kind in "iub":
        levels = Levels.between(int(values.min()), int(values.max()), integers=True, whole=True)
    else:
        low, high = float(values.min()), float(values.max())
        if not np.isfinite((low, high)).all():
            raise ValueError("the image holds values that are not finite")
        levels = Levels.between(low, high, integers=False, whole=is_whole(values))
    return levels.pixels(values), levels.slope, levels.offset, levels.shifted


def is_whole(values: npt.NDArray[np.generic]) -> bool:
    """Whether finite values [row, ...] are whole numbers."""
    slabs = row_slabs(values.shape[0], values[0].size)
    return all(np.array_equal(np.rint(exact), exact) for exact in (values[slab].astype(np.float64) for slab in slabs))


@dataclass(frozen=True)
class Statistics:
    """Of the stored pixel values at full resolution: extremes, 0.5% and 99.5% percentiles, mean, sd."""

    minimum: float
    low: float
    high: float
    maximum: float
    mean: float
    deviation: float


def measure(pixels: npt.NDArray[np.int16]) -> Statistics:
    """Statistics of int16 [row, column] pixels, exact, from one histogram of the 65,536 possible values."""
    minimum = int(pixels.min())
    counts = np.zeros(int(pixels.max()) - minimum + 1, dtype=np.int64)
    for slab in row_slabs(*pixels.shape):
        counts += np.bincount(pixels[slab].astype(np.int32).ravel() - minimum, minlength=counts.size)
    levels = np.arange(minimum, minimum + counts.size)
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    mean = float((counts * levels).sum() / total)
    variance = float((counts * (levels - mean) ** 2).sum() / total)

    def percentile(fraction: float) -> float:
        return float(levels[np.searchsorted(cumulative, fraction * total)])

    return Statistics(
        minimum=float(levels[0]),
        low=percentile(0.005),
        high=percentile(0.995),
        maximum=float(levels[-1]),
        mean=mean,
        deviation=variance**0.5,
    )
