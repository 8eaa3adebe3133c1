"""What an image is, independent of where it came from.

In: decoded pixels with their meaning. Out: `Image`, pixel statistics and hashes, radial power spectra.
"""

from scoutview.images.hashes import difference_hash, pixel_sha256
from scoutview.images.spectrum import (
    BAND_SIGMAS,
    BANDS,
    Spectrum,
    band_energies,
    decode_spectrum,
    encode_spectrum,
    radial_spectrum,
)
from scoutview.images.types import FLAGS, MODALITIES, Image, Modality, Statistics, measure
from scoutview.images.volume_spectrum import volume_spectrum

__all__ = [
    "BANDS",
    "BAND_SIGMAS",
    "FLAGS",
    "MODALITIES",
    "Image",
    "Modality",
    "Spectrum",
    "Statistics",
    "band_energies",
    "decode_spectrum",
    "difference_hash",
    "encode_spectrum",
    "measure",
    "pixel_sha256",
    "radial_spectrum",
    "volume_spectrum",
]
