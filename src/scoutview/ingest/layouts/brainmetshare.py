"""BrainMetShare (Grøvik et al. 2020, Stanford): brain metastases in four MR sequences, as PNG slices with masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.layouts.bitmaps import read_bitmap
from scoutview.ingest.layouts.entries import Entry, Mask, Split
from scoutview.ingest.layouts.tables import first_of

NAME = "metastasis"
SEQUENCES = {"0": "T1 gradient echo post", "1": "T1 spin echo pre", "2": "T1 spin echo post", "3": "FLAIR post"}
PARTS: tuple[tuple[str, Split], ...] = (("train", "train_validation"), ("test", "test"))


def recognise(folder: Path) -> str:
    """Why the folder is of this layout, "" when it is not."""
    path = first_of(folder, "mets_stanford_release*_train", "mets_stanford_release*_test")
    return f"it holds {path.name}/" if path else ""


def read(folder: Path) -> Iterator[Entry]:
    """Label, mask and sequence of each slice `Mets_005/0/12.png`; its mask is `Mets_005/seg/12.png`, 0 or 255.

    The four sequences share the mask. The test part has no masks: its slices are unknown, not negative.
    """
    found = False
    for part, split in PARTS:
        for place in sorted(folder.glob(f"mets_stanford_release*_{part}/Mets_*")):
            slices = {path.name for name in SEQUENCES for path in (place / name).glob("*.png")}
            for name in sorted(slices, key=lambda name: (len(name), name)):  # 2.png lies before 10.png
                found = True
                mask = read_bitmap(place / "seg" / name) if (place / "seg" / name).exists() else None
                for sequence, description in SEQUENCES.items():
                    path = place / sequence / name
                    if not path.exists():
                        continue
                    labels = {"sequence": description}
                    if mask is not None:
                        labels[NAME] = str(int(mask.any()))
                    yield Entry(
                        f"{place.name}/seg/{name}",
                        (path.relative_to(folder).as_posix(),),
                        patient=place.name,
                        split=split,
                        labels=labels,
                        masks=(Mask(NAME, mask),) if mask is not None and mask.any() else (),
                        no_masks=(NAME,) if mask is not None and not mask.any() else (),
                    )
    if not found:
        raise UsageError(f"{folder} has no mets_stanford_release*_train/Mets_*/: give the folder that holds them")
