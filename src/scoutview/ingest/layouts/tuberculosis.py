"""Shenzhen and Montgomery (Jaeger et al. 2014, NLM): tuberculosis films; the last digit of a name is the label."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.bitmaps import read_bitmap
from scoutview.ingest.layouts.entries import Entry, Mask

NAME = re.compile(r"(?:CHNCXR|MCUCXR)_\d{4}_([01])$")
LUNGS = (("left lung", "leftMask"), ("right lung", "rightMask"))
"""The patient's left, as the names of the folders say."""


def recognise(folder: Path) -> str:
    """Why the folder is of one of these layouts, "" when it is not."""
    path = next((path for path in sorted(folder.glob("CXR_png/*.png")) if NAME.match(path.stem)), None)
    return f"CXR_png/ holds {path.name}" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Label tuberculosis: "1" where the name ends in _1. Montgomery's masks of the lungs where they are there."""
    found = False
    for path in sorted(folder.glob("CXR_png/*.png")):
        name = NAME.match(path.stem)
        if name is None:
            continue
        found = True
        masks = tuple(
            Mask(lung, read_bitmap(folder / "ManualMask" / side / path.name))
            for lung, side in LUNGS
            if (folder / "ManualMask" / side / path.name).exists()
        )
        yield Entry(path.name, (path.name,), patient=path.stem, labels={"tuberculosis": name[1]}, masks=masks)
    if not found:
        raise UsageError(f"{folder} has no CXR_png/CHNCXR_*.png or MCUCXR_*.png: give the folder above CXR_png")
