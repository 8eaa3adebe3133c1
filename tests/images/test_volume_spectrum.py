"""Band energies of volumes from their spectrum against direct filtering in float64 along all three axes."""

from __future__ import annotations

import gzip
import tarfile
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
from samples import textured_volume
from scipy import fft, ndimage

from scoutview.images import BAND_SIGMAS, band_energies, radial_spectrum, volume_spectrum
from scoutview.images.spectrum import prefilter_sigma

SHAPE = (40, 112, 96)


def by_scipy(volume: np.ndarray, thickness: float) -> np.ndarray:
    """e_k by the definition: the cascade with a sigma per axis and half-sample symmetric borders."""
    level, energies = volume.astype(np.float64), []
    for sigma in BAND_SIGMAS:
        sigmas = (sigma / thickness, sigma, sigma)
        lower = ndimage.gaussian_filter(level, sigmas, mode="reflect", truncate=8)
        energies.append((level - lower).std())
        level = lower
    return np.array([*energies, level.std()])


def by_transform(volume: np.ndarray, thickness: float, scale: float) -> np.ndarray:
    """The same of slices made smaller: every coefficient of the cosine series by itself."""
    power = np.square(fft.dctn(volume.astype(np.float64), norm="ortho")) / volume.size
    power[0, 0, 0] = 0.0
    through, down, across = (np.pi * np.arange(length) / length for length in volume.shape)
    power *= np.exp(-np.square(prefilter_sigma(scale)) * np.add.outer(down**2, across**2))
    for frequency, axis in ((down, 1), (across, 2)) if scale < 1 else ():
        passed = np.zeros(len(frequency))
        # Pixels of the view show w also as 2 pi - w.
        for turned in (frequency, 2 * np.pi - frequency):
            passed += np.square(0.5 + 0.5 * np.cos(np.clip(turned / scale / np.pi - 0.5, 0, 1) * np.pi))
        power *= passed.reshape([-1 if place == axis else 1 for place in range(3)])
    squared = np.add.outer((through / (thickness * scale)) ** 2, np.add.outer(down**2, across**2) / scale**2)
    variances = np.cumsum(np.square(BAND_SIGMAS))
    cascade = [np.ones_like(squared), *(np.exp(-variance * squared / 2) for variance in variances)]
    responses = [upper - lower for upper, lower in pairwise(cascade)] + [cascade[-1]]
    return np.array([np.sqrt((power * response**2).sum()) for response in responses])


@pytest.mark.parametrize("thickness", [0.4, 1.0])
def test_energies_equal_direct_filtering_where_slices_are_thin(thickness: float) -> None:
    """A sampled Gaussian of less than a slice is another filter, so thick slices have the test below."""
    volume = textured_volume(np.random.default_rng(0), SHAPE, thickness)
    energies = band_energies(volume_spectrum(volume, thickness))
    np.testing.assert_allclose(energies, by_scipy(volume, thickness), rtol=0.01)


@pytest.mark.parametrize("thickness", [0.4, 1.0, 5.0])
@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0])
def test_energies_after_a_rescale_of_the_slices(thickness: float, scale: float) -> None:
    volume = textured_volume(np.random.default_rng(1), SHAPE, thickness)
    energies = band_energies(volume_spectrum(volume, thickness), scale)
    np.testing.assert_allclose(energies, by_transform(volume, thickness, scale), rtol=0.02)


@pytest.mark.parametrize("name", ["ct_head_pitch.nii.gz", "mr_body_3mm.nii.gz"])
def test_energies_of_real_volumes(real_data: Path, name: str) -> None:
    with tarfile.open(real_data / "nifti_dev.tar") as tar:
        member = next(member for member in tar.getnames() if member.endswith(name))
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(tar.extractfile(member).read()))
    values = np.asarray(image.dataobj, dtype=np.float32).T
    low, high = np.percentile(values, (0.5, 99.5))
    volume = np.clip((values - low) / (high - low), 0, 1)
    across, down, through = image.header.get_zooms()
    thickness = float(through / np.sqrt(across * down))
    spectrum = volume_spectrum(volume, thickness)
    for scale in (0.5, 0.8, 1.0):
        np.testing.assert_allclose(band_energies(spectrum, scale), by_transform(volume, thickness, scale), rtol=0.01)


def test_many_scales_at_once_and_one_slice_is_an_image() -> None:
    volume = textured_volume(np.random.default_rng(2), SHAPE, 3.0)
    spectrum = volume_spectrum(volume, 3.0)
    scales = np.array([[0.4, 0.6], [0.8, 1.2]])
    together = band_energies(spectrum, scales)
    assert together.shape == (2, 2, 6)
    for place in np.ndindex(2, 2):
        np.testing.assert_allclose(together[place], band_energies(spectrum, scales[place]))
    np.testing.assert_allclose(
        band_energies(volume_spectrum(volume[:1], 3.0), scales), band_energies(radial_spectrum(volume[0]), scales)
    )
