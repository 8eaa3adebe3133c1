"""Reference band energies of volumes: from some of those that a run trains on, kept in its folder.

Those of images are made at ingest, from stored spectra. What a volume looks like depends on how a run reads it, as a
head or whole, and its bands cross slices; so a run measures some of its own volumes when it starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scoutview.batches.volume_loader import VolumeReader
from scoutview.errors import RunError
from scoutview.files import write_json
from scoutview.images import volume_spectrum
from scoutview.ingest.references import GRID, reference_energies
from scoutview.preprocessing import NoBrainError
from scoutview.store import DamagedRecordError
from scoutview.views import ReferenceEnergies

FILE = "volume_energies.json"
REFERENCES = 64
"""Volumes per modality at most: reading a head takes a second, and the spread of e_k is known to a tenth."""


def volume_references(reader: VolumeReader, folder: Path) -> dict[str, ReferenceEnergies]:
    """modality -> mean and spread of its volumes' band energies: those in `folder`, or measured and written there.

    Raises:
        RunError: if no volume of a modality can be read, or the file is damaged.
    """
    file = folder / FILE
    if not file.exists():
        write_json(file, {name: _measured(reader, number) for number, name in enumerate(reader.volumes.parts)})
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {name: ReferenceEnergies.from_dict(known[name]) for name in reader.volumes.parts}
    except (ValueError, KeyError) as error:
        raise RunError(f"{file} is damaged ({error}): delete it, and it is measured again") from error


def _measured(reader: VolumeReader, number: int) -> dict[str, Any]:
    """Of a modality, from volumes that lie evenly through the list, as neighbours are often of one source."""
    begin, end = (int(place) for place in reader.volumes.starts[number : number + 2])
    spectra, sides, failed = [], [], ""
    for index in np.unique(np.linspace(begin, end - 1, min(REFERENCES, end - begin)).round().astype(int)).tolist():
        try:
            volume, thickness = reader.read(index)
        except (DamagedRecordError, NoBrainError) as error:
            failed = str(error)
            continue
        spectra.append(volume_spectrum(volume, thickness))
        sides.append(min(volume.shape[1:]))
    if not spectra:
        raise RunError(f"none of the volumes that reference energies are measured on can be read; the last: {failed}")
    mean, deviation = reference_energies(spectra, sides, GRID)
    return {
        "short_sides": GRID.tolist(),
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
        "volumes": len(spectra),
    }
