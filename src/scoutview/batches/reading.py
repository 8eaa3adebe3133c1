"""The one way from a store to network values: checksum, decode, preprocess."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoutview.batches.archive import Archive
from scoutview.images import Spectrum, radial_spectrum
from scoutview.images.wavelet import fits_int16
from scoutview.preprocessing import Preprocessing, preprocess
from scoutview.store import LEVELS, IndexRow


def read_unit_image(
    archive: Archive, index: int, preprocessing: Preprocessing, level: int = 0
) -> tuple[npt.NDArray[np.float32], Spectrum]:
    """Image `index` as float32 [row, column] in [0, 1] at 1 / 2^level resolution, and its radial spectrum at full.

    The stored spectrum is used when it was made under the same preprocessing, else it is computed again.

    Raises:
        DamagedRecordError: if the stored bytes are not those that were written.
    """
    store, row = archive.place(index)
    pixels, spectrum = store.read_record(row, level)
    image = preprocess(pixels, row, preprocessing)
    if row.spectrum_preprocessing != preprocessing.identity():
        if level:
            raise ValueError("a spectrum is computed from full resolution: read at level 0")
        spectrum = radial_spectrum(image)
    return image, spectrum


def coarsest_level(row: IndexRow, preprocessing: Preprocessing) -> int:
    """The coarsest level at which a smaller picture of an image is read true, 0 to 3.

    Averages of pixels mean something only where preprocessing is linear, which excludes the curve of Hounsfield units.
    Ultrasound folds speckle and overlays into what is kept. The decoder wraps at the ends of int16.
    """
    curved = row.modality == "ct" and row.units == "HU"
    if row.modality == "us" or curved or row.spectrum_preprocessing != preprocessing.identity():
        return 0
    return max(level for level in range(LEVELS + 1) if fits_int16(row.minimum, row.maximum, level))
