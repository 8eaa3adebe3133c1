"""Power spectrum of a volume: a radial one of its slices for each frequency along its depth.

The bands of a volume are Gaussians with one sigma in the slices and another along its depth; slices are `thickness` of
their pixels apart, so sigma_k px are sigma_k / thickness slices. The type-II DCT diagonalises them along all three
axes. A rescale acts within slices only, so its filters depend on the radius there, and the bands on both frequencies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from scoutview.images.spectrum import Spectrum, spectrum_of_coefficients


def volume_spectrum(volume: npt.NDArray[np.floating], thickness: float) -> Spectrum:
    """Spectrum of a volume [slice, row, column] in [0, 1] whose slices are `thickness` of their pixels apart."""
    coefficients = fft.dctn(volume.astype(np.float32, copy=False), norm="ortho")
    planes = [
        spectrum_of_coefficients(plane, plane.shape, with_mean=number > 0) for number, plane in enumerate(coefficients)
    ]
    slices = len(volume)
    along: npt.NDArray[np.float64] = np.pi * np.arange(slices, dtype=np.float64) / (slices * thickness)
    return Spectrum(
        power=np.stack([plane.power for plane in planes]) / slices,
        radius=np.stack([plane.radius for plane in planes]),
        depth=along[:, None],
    )
