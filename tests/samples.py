"""Images and stores that the tests of several rooms make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scoutview.images import MODALITIES, Image, band_energies, encode_spectrum, radial_spectrum
from scoutview.images.types import to_int16
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import Annotation, Store, StoreWriter, add_annotations, make_record
from scoutview.store.shards import Keys


def textured(generator: np.random.Generator, rows: int, columns: int, slope: float = 1.6) -> np.ndarray:
    """A random image [rows, columns] in [0, 1] whose amplitude spectrum falls as frequency^-slope."""
    noise = np.fft.rfft2(generator.standard_normal((rows, columns)))
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    radius[0, 0] = 1.0
    image = np.fft.irfft2(noise / radius**slope, s=(rows, columns))
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def textured_volume(
    generator: np.random.Generator, shape: tuple[int, int, int], thickness: float = 1.0, slope: float = 2.2
) -> np.ndarray:
    """A random volume [slice, row, column] in [0, 1]; in mm its amplitude spectrum falls as frequency^-slope.

    thickness: from a slice to the next in px of the slices.
    """
    noise = np.fft.rfftn(generator.standard_normal(shape))
    slices, rows, columns = shape
    squared = (np.fft.fftfreq(slices)[:, None, None] / thickness) ** 2
    radius = np.sqrt(squared + np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns) ** 2)
    radius[0, 0, 0] = 1.0
    volume = np.fft.irfftn(noise / radius**slope, s=shape, axes=(0, 1, 2))
    return ((volume - volume.min()) / np.ptp(volume)).astype(np.float32)


def make_store(folder: Path, images: int = 24, size: int = 96, series: int = 0) -> Store:
    """A store of `images` textured images per modality, labelled by their texture; with `series`, that many series."""
    preprocessing = Preprocessing()
    annotations = []
    spectra: dict[str, list] = {}
    with StoreWriter(folder, "test-salt") as writer:
        for number, modality in enumerate(MODALITIES):
            generator = np.random.default_rng(number)
            for count in range(images):
                rough = count % 2
                pixels = textured(generator, size, size + 8, 1.1 if rough else 2.2)
                stored, slope, offset, shifted = to_int16((pixels * 255).astype(np.uint8))
                image = Image(stored, modality, slope, offset, shifted=shifted)
                spectrum = radial_spectrum(preprocess(stored, calibration_of(image), preprocessing))
                spectra.setdefault(modality, []).append(spectrum)
                name = f"{modality}-{count:04d}"
                split = ("train", "train", "train", "validation", "test")[count // 2 % 5]
                keys = Keys(name, f"patient-{name}", "", f"s{count % series}" if series else "", *[""] * 5, split)
                writer.add(make_record(image, keys, encode_spectrum(spectrum), preprocessing.identity()))
                annotations.append(Annotation(name, "label", f"{modality}_rough", str(rough)))
        writer.commit()
        grid = np.geomspace(32, 1200, 16)
        references = {}
        for modality, known in spectra.items():
            energies = np.stack([band_energies(spectrum, grid / size) for spectrum in known])
            references[modality] = {
                "preprocessing": preprocessing.identity(),
                "short_sides": grid.tolist(),
                "mean": energies.mean(0).tolist(),
                "deviation": energies.std(0).tolist(),
                "images": len(known),
            }
        writer.set_reference_energies(references)
    store = Store.open(folder)
    add_annotations(store, annotations)
    return store
