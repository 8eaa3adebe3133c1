"""Real X-ray, CT, MR and US images from archive to report: ingest, pretraining without labels, probes.

The images are the public sets described in the README of the data folder (NIH ChestX-ray14, IQ-OTH/NCCD, a brain
tumour collection, BUSI). Run: python benchmarks/first_light.py --data FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from scoutview import ingest, inspect, pretrain, probe
from scoutview.images import Modality
from scoutview.training.run_folder import read_metrics

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class RealSet:
    """An archive of pictures with labels.csv: which columns are the label and the patient (or group)."""

    archive: str
    modality: Modality
    column: str
    label: str
    patient: str


SETS = (
    RealSet("cxr_nih_dev", "xray", "abnormal", "chest_abnormal", "patient_id"),
    RealSet("ct_chest_iqothnccd_dev", "ct", "label", "ct_diagnosis", "block"),
    RealSet("mr_brain_tumor_dev", "mr", "label", "mr_tumour", "near_dup_group"),
    RealSet("us_busi_dev", "us", "label", "us_diagnosis", "group"),
)


def take_in(data: Path, out: Path) -> Path:
    """Extract the archives, name the labels by modality, ingest all four sets into one store."""
    store = out / "store"
    for real in SETS:
        folder = out / "sources" / real.archive
        if not (folder / "labels.csv").exists():
            with tarfile.open(data / f"{real.archive}.tar") as archive:
                archive.extractall(folder, filter="data")
        labels = out / "sources" / f"{real.label}.csv"
        with (folder / "labels.csv").open(newline="") as source, labels.open("w", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(["file", "patient", real.label])
            for row in csv.DictReader(source):
                writer.writerow([row["file"], row[real.patient], row[real.column]])
        ingest([folder / "images"], out=store, labels=labels, modality=real.modality)
    inspect(store)
    return store


def main() -> None:
    """Take in, pretrain, probe; end with one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "first-light")
    parser.add_argument("--recipe", default="small_cpu")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"{arguments.data} is not there: give the folder of the archives with --data")
    os.environ.setdefault("SCOUTVIEW_KEY", "public images need no secret")
    store = take_in(arguments.data, arguments.out)
    run = pretrain([store], out=arguments.out / "pretraining", recipe=arguments.recipe)
    content = probe(str(run), store, label=[real.label for real in SETS])

    lines = [line for line in read_metrics(run) if "modalities" in line]
    seconds = json.loads((run / "manifest.json").read_text())["seconds"]
    print(f"seconds of pretraining: {seconds:.0f} (bar: about 1200 on 2 cores)")
    for name, last in lines[-1]["modalities"].items():
        # Of the last quarter against the quarter before: still falling?
        quarter = max(len(lines) // 4, 1)
        late = [line["modalities"][name]["loss"] for line in lines[-quarter:]]
        before = [line["modalities"][name]["loss"] for line in lines[-2 * quarter : -quarter]]
        falling = sum(before) / max(len(before), 1) - sum(late) / len(late)
        print(f"{name} loss - ln K: {last['loss'] - last['ln_k']:.3f} (bar: < 0)")
        print(f"{name} fall of the mean loss over the last two quarters: {falling:.3f} (bar: > 0)")
        print(f"{name} prototypes in use: {last['prototypes_used']:.2f} (bar: > 0.50)")
    better = 0
    for name, entry in content["probes"].items():
        ours, untrained, raw = (row["knn_auc"]["value"] for row in entry["rows"])
        better += ours > max(untrained, raw)
        print(f"{name} kNN AUC: {ours:.3f} (bar: > {untrained:.3f} untrained and > {raw:.3f} raw pixels)")
    print(f"label sets where kNN beats both: {better} (bar: >= 3)")


if __name__ == "__main__":
    main()
