"""Label files of public data sets, and of masks -> what they say of which image.

In: the folder of a data set. Out: entries, keyed by file or UID; a layout is two functions in a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts import (
    brainmetshare,
    brats_mets,
    chestxray14,
    chexpert,
    cq500,
    lidc_idri,
    mimic_cxr,
    mura,
    node21,
    openi,
    padchest,
    rsna_bone_age,
    rsna_ich,
    siim_pneumothorax,
    tuberculosis,
    vindr_cxr,
)
from scoutview.ingest.layouts.entries import Box, Entry, Mask

__all__ = ["LAYOUTS", "Box", "Entry", "Layout", "Mask", "find_layout"]


@dataclass(frozen=True)
class Layout:
    """recognise: why a folder is of this layout, "" when it is not. read: its entries; raises UsageError."""

    recognise: Callable[[Path], str]
    read: Callable[[Path], Iterator[Entry]]


LAYOUTS: dict[str, Layout] = {
    "brainmetshare": Layout(brainmetshare.recognise, brainmetshare.read),
    "brats_mets": Layout(brats_mets.recognise, brats_mets.read),
    "chestxray14": Layout(chestxray14.recognise, chestxray14.read),
    "chexpert": Layout(chexpert.recognise, chexpert.read),
    "cq500": Layout(cq500.recognise, cq500.read),
    "lidc_idri": Layout(lidc_idri.recognise, lidc_idri.read),
    "mimic_cxr": Layout(mimic_cxr.recognise, mimic_cxr.read),
    "mura": Layout(mura.recognise, mura.read),
    "node21": Layout(node21.recognise, node21.read),
    "openi": Layout(openi.recognise, openi.read),
    "padchest": Layout(padchest.recognise, padchest.read),
    "rsna_bone_age": Layout(rsna_bone_age.recognise, rsna_bone_age.read),
    "rsna_ich": Layout(rsna_ich.recognise, rsna_ich.read),
    "siim_pneumothorax": Layout(siim_pneumothorax.recognise, siim_pneumothorax.read),
    "tuberculosis": Layout(tuberculosis.recognise, tuberculosis.read),
    "vindr_cxr": Layout(vindr_cxr.recognise, vindr_cxr.read),
}
"""The data sets that are known, by the name for `--layout`."""


def find_layout(folder: Path, name: str | None = None) -> tuple[str, str]:
    """(name, why) of the layout of a folder; a name that is given decides.

    Raises:
        UsageError: no such name; or none was given, and the folder looks like none or like several.
    """
    known = ", ".join(LAYOUTS)
    if name is not None:
        if name not in LAYOUTS:
            raise UsageError(f"there is no layout {name!r}: known are {known}")
        return name, "it was named"
    reasons = {name: layout.recognise(folder) for name, layout in LAYOUTS.items()}
    found = {name: why for name, why in reasons.items() if why}
    if not found:
        raise UsageError(f"{folder} looks like none of the layouts {known}: name the layout, or give the label file")
    if len(found) > 1:
        said = "; ".join(f"{name}: {why}" for name, why in found.items())
        raise UsageError(f"{folder} looks like several layouts ({said}): name the one to read")
    return next(iter(found.items()))
