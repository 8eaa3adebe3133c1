"""Reference band energies of an archive: what energy normalisation and energy augmentation aim at.

An archive's images have many sizes, and a rescale changes their band energies; so the reference is given on a
grid of sizes of the network input, from the same images at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from scoutview.images import MODALITIES, Spectrum, band_energies
from scoutview.preprocessing import Preprocessing
from scoutview.store import Annotation, ImageRow, Store, read_annotations, split_of
from scoutview.store.catalog import rows_of

REFERENCES, CHUNK = 1000, 4096
"""Images per modality at most; rows that are looked at together."""
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
    table, annotations = store.catalog(), read_annotations(store)
    identity = Preprocessing().identity()
    content: dict[str, Any] = {}
    for modality in MODALITIES:
        fits = pc.and_(pc.equal(table["modality"], modality), pc.equal(table["spectrum_preprocessing"], identity))
        chosen = _training(table.filter(fits), annotations)
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


def _training(table: Any, annotations: Sequence[Annotation]) -> list[ImageRow]:
    """The first training images by id; rows become objects a few at a time, since a store may hold millions."""
    order = pc.sort_indices(table["image"])
    chosen: list[ImageRow] = []
    for begin in range(0, len(order), CHUNK):
        rows = rows_of(table.take(order[begin : begin + CHUNK]))
        splits = split_of(rows, annotations)
        chosen += [row for row in rows if splits[row.image] == "train"]
        if len(chosen) >= REFERENCES:
            break
    return chosen[:REFERENCES]
