"""Reference band energies of an archive: what energy normalisation and energy augmentation aim at.

An archive's images have many sizes, and a rescale changes their band energies; so the reference is given on a
grid of sizes of the network input, from the same images at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.images import MODALITIES, Spectrum, band_energies
from scoutview.preprocessing import Preprocessing
from scoutview.store import Store, read_annotations, split_of

REFERENCES = 1000
"""Images per modality at most."""
GRID = np.geomspace(32.0, 1200.0, 16)
"""Short sides of the network input in px."""


def reference_energies(
    spectra: Sequence[Spectrum], short_sides_px: Sequence[int], grid: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation over images [size of the grid, 6] of the band energies e_k.

    short_sides_px: min(rows, columns) of each image; at a grid size s an image is rescaled by s / short side.
    """
    energies = np.stack(
        [band_energies(spectrum, grid / side) for spectrum, side in zip(spectra, short_sides_px, strict=True)]
    )
    return energies.mean(axis=0), energies.std(axis=0)


def references_of(store: Store) -> dict[str, Any]:
    """The entry of store.json: per modality the reference over at most 1000 training images, chosen by their id."""
    rows = store.rows()
    splits = split_of(rows, read_annotations(store))
    identity = Preprocessing().identity()
    content: dict[str, Any] = {}
    for modality in MODALITIES:
        chosen = sorted(
            (
                row
                for row in rows
                if row.modality == modality and splits[row.image] == "train" and row.spectrum_preprocessing == identity
            ),
            key=lambda row: row.image,
        )[:REFERENCES]
        if not chosen:
            continue
        spectra = [store.read_spectrum(row) for row in chosen]
        mean, deviation = reference_energies(spectra, [min(row.rows, row.columns) for row in chosen], GRID)
        content[modality] = {
            "preprocessing": identity,
            "short_sides": GRID.tolist(),
            "mean": mean.tolist(),
            "deviation": deviation.tolist(),
            "images": len(chosen),
        }
    return content
