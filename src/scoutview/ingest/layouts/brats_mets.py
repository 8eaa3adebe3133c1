"""BraTS-METS (Moawad et al. 2024): brain metastases in four MR sequences on one grid, with a label volume."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry, Mask
from scoutview.ingest.layouts.nifti_masks import check_grid, slices_of
from scoutview.ingest.layouts.tables import first_of

CASE = re.compile(r"(BraTS-MET-\d+)-\d+$")
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
REGIONS = {1: "NETC", 2: "SNFH", 3: "ET", 4: "RC"}
"""Non-enhancing tumour core, surrounding FLAIR hyperintensity, enhancing tumour, and from 2025 resection cavity."""
CORE = (1, 3)
SEARCHED = ("NETC", "SNFH", "ET")
"""A volume without a resection cavity may come from a release that does not label cavities."""
NAME = "metastasis"


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    case = first_of(folder, "BraTS-MET-*-*/*-t1c.nii*", "*/BraTS-MET-*-*/*-t1c.nii*")
    return f"it holds {case.parent.name}/{case.name}" if case else ""


def read(folder: Path) -> Iterator[Entry]:
    """Masks of the regions per slice of each sequence, label metastasis where a slice holds tumour core (NETC or ET).

    A case without a label volume (the validation part) has the label sequence only: it is unknown, not negative.
    The patient is the first number of a case, the second counts time points.
    """
    found = False
    for place in sorted(path for path in folder.rglob("BraTS-MET-*") if path.is_dir()):
        case = CASE.match(place.name)
        if case is None:
            continue
        volumes = [(name, first_of(place, f"{place.name}-{name}.nii.gz", f"{place.name}-{name}.nii"))
                   for name in SEQUENCES]  # fmt: skip
        labels = first_of(place, f"{place.name}-seg.nii.gz", f"{place.name}-seg.nii")
        slices = list(slices_of(labels)) if labels else []
        for sequence, volume in volumes:
            if volume is None:
                continue
            found = True
            if labels:
                check_grid(labels, volume)
            yield _volume(volume, sequence, case[1], labels is not None)
            for index, regions in slices:
                yield _slice(f"{volume.name}#{index}", regions, f"{place.name} slice {index}")
    if not found:
        raise UsageError(f"{folder} has no BraTS-MET-*-*/*-t1c.nii.gz in it or below: give the folder of the cases")


def _volume(volume: Path, sequence: str, patient: str, labelled: bool) -> Entry:
    return Entry(
        volume.name,
        (volume.name,),
        about="series",
        patient=patient,
        labels={"sequence": sequence, **({NAME: "0"} if labelled else {})},
        no_masks=SEARCHED if labelled else (),
    )


def _slice(name: str, regions: Mapping[int, npt.NDArray[np.bool_]], where: str) -> Entry:
    unknown = sorted(set(regions) - set(REGIONS))
    if unknown:
        raise UsageError(f"{where} holds the value {unknown[0]}: known are 1 NETC, 2 SNFH, 3 ET, 4 RC")
    return Entry(
        where,
        (name,),
        labels={NAME: "1"} if any(value in CORE for value in regions) else {},
        masks=tuple(Mask(REGIONS[value], bitmap) for value, bitmap in regions.items()),
    )
