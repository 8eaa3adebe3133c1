"""Four public sets of real images (NIH ChestX-ray14, IQ-OTH/NCCD, a brain tumour collection, BUSI) as one store.

They are described in the README of the data folder; nothing of them is part of this repository. The other benchmarks
on real images begin with this. Run: python benchmarks/real_sets.py --data FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from scoutview import ingest, inspect
from scoutview.batches import Archive
from scoutview.images import Modality

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SHARES = (("train", 0.60), ("validation", 0.75), ("test", 1.0))


@dataclass(frozen=True)
class RealSet:
    """An archive of pictures with labels.csv: its label, what stays together, the column of the label in the source.

    values: source value -> label value; a value that is not named leaves the image unlabelled.
    """

    archive: str
    modality: Modality
    label: str
    group: str
    column: str
    values: dict[str, str]

    def value(self, row: dict[str, str]) -> str:
        """The label of a row of labels.csv, "" for none."""
        return self.values.get(row[self.column], "")


SETS = (
    RealSet("cxr_nih_dev", "xray", "chest_abnormal", "patient_id", "abnormal", {"0": "0", "1": "1"}),
    # Benign has six blocks only, too few to split: those images are pretrained on, without a label.
    RealSet("ct_chest_iqothnccd_dev", "ct", "ct_malignant", "block", "label", {"normal": "0", "malignant": "1"}),
    RealSet(
        "mr_brain_tumor_dev",
        "mr",
        "mr_tumour",
        "near_dup_group",
        "label",
        {name: name for name in ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")},
    ),
    RealSet(
        "us_busi_dev",
        "us",
        "us_diagnosis",
        "group",
        "label",
        {name: name for name in ("benign", "malignant", "normal")},
    ),
)
LABELS = tuple(real.label for real in SETS)


def take_in(data: Path, out: Path) -> Path:
    """Extract the archives under out/sources and ingest them into out/store, with labels, groups and splits."""
    if not data.is_dir():
        raise SystemExit(f"{data} is not there: give the folder of the archives with --data")
    os.environ.setdefault("SCOUTVIEW_KEY", "public images need no secret")
    store = out / "store"
    for real in SETS:
        folder = out / "sources" / real.archive
        if not (folder / "labels.csv").exists():
            with tarfile.open(data / f"{real.archive}.tar") as archive:
                archive.extractall(folder, filter="data")
        with (folder / "labels.csv").open(newline="") as source:
            rows = list(csv.DictReader(source))
        splits = split_groups([row[real.group] for row in rows], [row[real.column] for row in rows])
        labels = out / "sources" / f"{real.label}.csv"
        with labels.open("w", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(["file", "patient", "split", real.label])
            writer.writerows([row["file"], row[real.group], splits[row[real.group]], real.value(row)] for row in rows)
        ingest([folder / "images"], out=store, labels=labels, modality=real.modality)
    inspect(store)
    return store


def split_groups(groups: list[str], classes: list[str]) -> dict[str, str]:
    """60/15/25 per class of group: with 51 CT blocks in all, a plain hash would leave a class nearly out of a split."""
    found: dict[str, set[str]] = defaultdict(set)
    for group, value in zip(groups, classes, strict=True):
        found[group].add(value)
    strata: dict[str, list[str]] = defaultdict(list)
    for group, values in found.items():
        strata["/".join(sorted(values))].append(group)
    splits = {}
    for members in strata.values():
        ranked = sorted(members, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
        for place, group in enumerate(ranked):
            share = (place + 0.5) / len(ranked)
            splits[group] = next(name for name, end in SHARES if share <= end)
    return splits


def main() -> None:
    """Take the sets in and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/real-sets"))
    arguments = parser.parse_args()
    archive = Archive.open([take_in(arguments.data, arguments.out)])
    for real in SETS:
        with (arguments.out / "sources" / real.archive / "labels.csv").open(newline="") as source:
            rows = list(csv.DictReader(source))
        images = len(archive.indices(real.modality))
        labelled = len(archive.labelled(real.label))
        print(f"{real.modality} images: {images} (bar: >= {len(rows)})")
        print(f"{real.label} labels: {labelled} (bar: >= {sum(bool(real.value(row)) for row in rows)})")


if __name__ == "__main__":
    main()
