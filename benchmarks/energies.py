"""Band energies from the stored spectrum against direct filtering in float64, on real X-ray, CT, MR and US images.

Run: python benchmarks/energies.py --data FOLDER
"""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from scoutview.images import BAND_SIGMAS, band_energies, decode_spectrum, encode_spectrum, radial_spectrum
from scoutview.views import rescale

REPOSITORY = Path(__file__).resolve().parents[1]
ARCHIVES = ("cxr_nih_dev.tar", "ct_chest_iqothnccd_dev.tar", "mr_brain_tumor_dev.tar", "us_busi_dev.tar")
IMAGES = 24
SIDES = (64, 80, 112, 160, 224)
LEAST = 0.002
"""Bands with less energy than half a grey level of 8 bits are left out of the ratios."""


def direct(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """e_k by its definition: the Gaussian cascade of Eq. 8 with half-sample symmetric borders."""
    level = image.astype(np.float64)
    energies = []
    for sigma in BAND_SIGMAS:
        lower = ndimage.gaussian_filter(level, sigma, mode="reflect", truncate=8)
        energies.append(float((level - lower).std()))
        level = lower
    return np.array([*energies, level.std()])


def pictures(path: Path) -> list[npt.NDArray[np.float32]]:
    """Some images of an archive, evenly chosen, in [0, 1]."""
    with tarfile.open(path) as archive:
        names = sorted(name for name in archive.getnames() if name.startswith("images/"))
        chosen = names[:: max(len(names) // IMAGES, 1)][:IMAGES]
        images = []
        for name in chosen:
            member = archive.extractfile(name)
            assert member is not None
            images.append(
                np.asarray(Image.open(io.BytesIO(member.read())).convert("L"), dtype=np.float32) / np.float32(255)
            )
    return images


def errors(image: npt.NDArray[np.float32], small: npt.NDArray[np.float32], scale: float) -> npt.NDArray[np.float64]:
    """Relative errors of the six bands; NaN where there is nothing."""
    expected = direct(small)
    spectrum = decode_spectrum(encode_spectrum(radial_spectrum(image)))
    ratio = np.abs(band_energies(spectrum, scale) / expected - 1)
    return np.where(expected > LEAST, ratio, np.nan)


def main() -> None:
    """Print the worst error over images, per archive, at native scale and over rescales."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"{arguments.data} is not there: give the folder of the archives with --data")
    for name in ARCHIVES:
        images = pictures(arguments.data / name)
        native = max(float(np.nanmax(errors(image, image, 1.0))) for image in images)
        rescaled, first_band = 0.0, 0.0
        for image in images:
            for side in SIDES:
                scale = side / min(image.shape)
                shape = (round(image.shape[0] * scale), round(image.shape[1] * scale))
                if scale >= 1 or abs(shape[0] / image.shape[0] / (shape[1] / image.shape[1]) - 1) > 0.002:
                    continue  # whole pixels give the two axes different factors
                found = errors(image, rescale(image, *shape), shape[0] / image.shape[0])
                rescaled, first_band = max(rescaled, float(np.nanmax(found))), max(first_band, float(found[0]))
        print(f"{name} worst error at native scale: {native:.4f} (bar: <= 0.01)")
        print(f"{name} worst error after a rescale: {rescaled:.4f} (bar: <= 0.02)")
        print(f"{name} worst error of band 1 after a rescale: {first_band:.4f} (bar: <= 0.02)")


if __name__ == "__main__":
    main()
