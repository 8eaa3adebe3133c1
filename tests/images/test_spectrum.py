"""Band energies from the stored spectrum against direct filtering in float64 with scipy."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from samples import textured
from scipy import fft, ndimage

from scoutview.images import BAND_SIGMAS, band_energies, decode_spectrum, encode_spectrum, radial_spectrum
from scoutview.images.spectrum import prefilter_sigma


def direct_energies(image: np.ndarray) -> np.ndarray:
    """e_k by the definition: the Gaussian cascade with half-sample symmetric borders, in float64."""
    level = image.astype(np.float64)
    energies = []
    for sigma in BAND_SIGMAS:
        smoother = ndimage.gaussian_filter(level, sigma, mode="reflect", truncate=8)
        energies.append((level - smoother).std())
        level = smoother
    return np.array([*energies, level.std()])


def stored(image: np.ndarray) -> object:
    return decode_spectrum(encode_spectrum(radial_spectrum(image)))


def real_images(folder: Path, archive: str, count: int) -> list[np.ndarray]:
    with tarfile.open(folder / archive) as tar:
        names = sorted(name for name in tar.getnames() if name.startswith("images/"))
        chosen = names[:: max(len(names) // count, 1)][:count]
        return [
            np.asarray(Picture.open(io.BytesIO(tar.extractfile(name).read())).convert("L")) / np.float32(255)
            for name in chosen
        ]


def resampled(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """What views have of an image made smaller: its cosine series, blurred and cut off, at their pixels' middles.

    Pixels show each frequency w also as 2 pi - w, with its sign turned, and what passes of that is in the view.
    """
    coefficients = fft.dctn(image.astype(np.float64), norm="ortho")
    sides = []
    for length, count in zip(image.shape, (rows, columns), strict=True):
        scale, frequency = count / length, np.pi * np.arange(length) / length
        place = (np.arange(count) + 0.5) / scale
        side = np.zeros((count, length))
        for sign, turned in ((1, frequency), (-1, 2 * np.pi - frequency)):
            cut = 0.5 + 0.5 * np.cos(np.clip(turned / scale / np.pi - 0.5, 0, 1) * np.pi)
            passed = np.exp(-np.square(prefilter_sigma(scale) * turned) / 2) * cut
            side += sign * np.cos(np.outer(place, turned)) * passed
        side *= np.sqrt(2 / length)
        side[:, 0] /= np.sqrt(2)
        sides.append(side)
    return sides[0] @ coefficients @ sides[1].T


ARCHIVES = ("cxr_nih_dev.tar", "ct_chest_iqothnccd_dev.tar", "mr_brain_tumor_dev.tar", "us_busi_dev.tar")


@pytest.mark.parametrize("archive", ARCHIVES)
def test_energies_of_real_images_within_one_percent_at_native_scale(real_data: Path, archive: str) -> None:
    for image in real_images(real_data, archive, 8):
        np.testing.assert_allclose(band_energies(stored(image)), direct_energies(image), rtol=0.01)


@pytest.mark.parametrize("archive", ARCHIVES)
def test_energies_of_real_images_after_a_rescale(real_data: Path, archive: str) -> None:
    for image in real_images(real_data, archive, 6):
        rows, columns = image.shape
        for side in (64, 80, 112, 160, 224):
            if side >= min(rows, columns):
                continue
            # A size in whole pixels at which both axes have the same factor to within a thousandth.
            new_rows = next(
                n
                for n in range(round(side * rows / min(rows, columns)), 4 * rows)
                if abs(n * columns / rows - round(n * columns / rows)) < 0.001 * n
            )
            if new_rows >= rows:
                continue
            small = resampled(image, new_rows, round(new_rows * columns / rows))
            direct = direct_energies(small)
            visible = direct > 0.002  # below half a grey level of 8 bits there is nothing to amplify
            ratio = band_energies(stored(image), new_rows / rows)[visible] / direct[visible]
            assert (np.abs(ratio[1:] - 1) < 0.01).all()
            # Radiographs have more along their axes, where the cut at the Nyquist frequency takes most, than elsewhere.
            assert abs(ratio[0] - 1) < 0.04


def test_energies_of_synthetic_images() -> None:
    generator = np.random.default_rng(3)
    for rows, columns in ((128, 128), (200, 320), (255, 129)):
        image = textured(generator, rows, columns)
        np.testing.assert_allclose(band_energies(stored(image)), direct_energies(image), rtol=0.01)


def test_bands_add_up_to_the_image() -> None:
    """The energies describe bands that sum to I exactly: with all weights 1 nothing changes (see test_render)."""
    spectrum = radial_spectrum(textured(np.random.default_rng(0), 96, 96))
    assert spectrum.power.sum() == pytest.approx(textured(np.random.default_rng(0), 96, 96).var(), rel=1e-4)


def test_a_constant_image_has_no_energy() -> None:
    energies = band_energies(stored(np.full((64, 64), 0.4, dtype=np.float32)))
    assert (energies < 1e-6).all()


def test_a_spectrum_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="192 bytes"):
        decode_spectrum(b"\0" * 191)


def test_many_scales_at_once_equal_one_at_a_time() -> None:
    spectrum = radial_spectrum(textured(np.random.default_rng(1), 100, 80))
    scales = np.array([0.1, 0.35, 0.7, 1.0, 1.5])
    together = band_energies(spectrum, scales)
    for scale, row in zip(scales, together, strict=True):
        np.testing.assert_array_equal(band_energies(spectrum, scale), row)
