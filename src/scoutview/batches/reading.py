"""The one way from a store to network values: checksum, decode, preprocess."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoutview.batches.archive import Archive
from scoutview.images import Spectrum, radial_spectrum
from scoutview.preprocessing import Preprocessing, preprocess


def read_unit_image(
    archive: Archive, index: int, preprocessing: Preprocessing
) -> tuple[npt.NDArray[np.float32], Spectrum]:
    """Image `index` as float32 [row, column] in [0, 1] at full resolution, and its radial spectrum.

    The stored spectrum is used when it was made under the same preprocessing, else it is computed again.

    Raises:
        DamagedRecordError: if the stored bytes are not those that were written.
    """
    store, row = archive.place(index)
    pixels, spectrum = store.read_record(row)
    image = preprocess(pixels, row, preprocessing)
    if row.spectrum_preprocessing != preprocessing.identity():
        spectrum = radial_spectrum(image)
    return image, spectrum
