"""Does pretraining help to find opacities in real chest radiographs? The same detector from an encoder and from none.

NIH ChestX-ray14 images with the boxes of the RSNA challenge, and of NIH where RSNA did not look. An image that RSNA
read without drawing a box is free of opacities; of the others without a box nothing is known, so they take no part.
Patients are split as in real_sets.py, so an encoder pretrained on that store has not seen the test patients. Five seeds
of each; intervals are over patients and seeds, paired. Runs that are there are not repeated.
Run: python benchmarks/detection_real.py --encoder RUN --data FOLDER --out FOLDER [--at-once 2]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from real_sets import DATA, SETS, split_groups

from scoutview import evaluate, finetune, ingest, label
from scoutview.encoders import load_encoder, save_encoder, untrained_encoder
from scoutview.files import write_json
from scoutview.metrics import ClassBoxes, Hits, MatchingRule, case_table, hits_of_class
from scoutview.metrics.auc import weighted_areas
from scoutview.metrics.bootstrap import patient_weights
from scoutview.metrics.froc import weighted_sensitivities
from scoutview.training.run_folder import read_metrics

CLASS = "lung_opacity"
OPACITIES = ("Lung Opacity", "Pneumonia", "Infiltrate")
ARMS = ("random", "pretrained")
SEEDS, ROUNDS = 5, 2000
STEPS = 600
STEP_SECONDS = 0.25
"""Of one core, validation and start included, as measured with 200 steps."""
SETTINGS: dict[str, Any] = {"input_size": 256, "width": 64, "depth": 2, "batch_size": 8}
Floats = npt.NDArray[np.float64]


def take_in(data: Path, out: Path) -> Path:
    """Ingest the radiographs, with splits, and add the boxes as a COCO file of the images that were searched."""
    os.environ.setdefault("SCOUTVIEW_KEY", "public images need no secret")
    store, folder = out / "store", out / "sources"
    if not (folder / "boxes.csv").exists():
        with tarfile.open(data / "cxr_nih_dev.tar") as archive:
            archive.extractall(folder, filter="data")
    with (folder / "labels.csv").open(newline="") as source:
        rows = list(csv.DictReader(source))
    with (folder / "boxes.csv").open(newline="") as source:
        boxes = [box for box in csv.DictReader(source) if box["label"] in OPACITIES]
    real = SETS[0]
    splits = split_groups([row[real.group] for row in rows], [row[real.column] for row in rows])
    with (out / "labels.csv").open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["file", "patient", "split", real.label])
        writer.writerows([row["file"], row[real.group], splits[row[real.group]], real.value(row)] for row in rows)
    read = {row["file"] for row in rows if row["rsna_class"]}
    kept = [box for box in boxes if box["source"] == "RSNA" or box["file"] not in read]
    names = sorted(read | {box["file"] for box in kept})
    corners = [{"file": box["file"], "bbox": [float(box[side]) for side in "xywh"]} for box in kept]
    coco = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": 1, "name": CLASS}],
        "annotations": [
            {"image_id": names.index(str(box["file"])), "category_id": 1, "bbox": box["bbox"]} for box in corners
        ],
    }
    write_json(out / "boxes.json", coco)
    ingest([folder / "images"], out=store, labels=out / "labels.csv", modality="xray")
    label(store, out / "boxes.json")
    return store


def one_run(store: Path, out: Path, encoder: Path, steps: int, arm: str, seed: int) -> None:
    """Fine-tune and evaluate, in this process on one thread."""
    torch.set_num_threads(1)
    start = encoder
    if arm == "random":
        start = out / f"untrained-{seed}.safetensors"
        known = load_encoder(encoder)
        save_encoder(untrained_encoder(known.architecture, known.input_size, known.preprocessing, seed), start)
    settings = {**SETTINGS, "steps": steps, "seed": seed}
    evaluate(finetune("chest_detection", store, encoder=str(start), out=out / f"{arm}-{seed}", **settings), store)


def boxes_of(run: Path) -> tuple[ClassBoxes, ClassBoxes, npt.NDArray[np.str_]]:
    """(detections, truths, patient of each image) of detections.json."""
    images = json.loads((run / "detections.json").read_text())["images"]

    def joined(kind: str) -> ClassBoxes:
        boxes = [[box["box"] for box in image[kind]] for image in images]
        scores = [[box.get("score", 1.0) for box in image[kind]] for image in images]
        return ClassBoxes.join(boxes, [[0] * len(own) for own in boxes], scores)

    return joined("detections"), joined("truths"), np.array([image["patient"] for image in images])


def figures(runs: list[Path]) -> tuple[Floats, Floats]:
    """AUC and mean fROC sensitivity of runs on the same images: [run] on all, [run, resample] of patients."""
    tables: list[tuple[Floats, npt.NDArray[np.bool_]]] = []
    hits: list[Hits] = []
    for run in runs:
        detections, truths, patients = boxes_of(run)
        known = np.ones((len(patients), 1), dtype=np.bool_)
        scores, targets = case_table(detections, truths, known)
        tables.append((scores[:, 0], targets[:, 0] == 1))
        hits.append(hits_of_class(detections, truths, known, 0, MatchingRule("iou", 0.1)))
    whole = np.ones((1, len(patients)))
    blocks = [whole, *patient_weights(patients, ROUNDS, 0)]
    aucs = [np.concatenate([weighted_areas(*table, weights)[0] for weights in blocks]) for table in tables]
    frocs = [np.concatenate([weighted_sensitivities(own, weights).mean(1) for weights in blocks]) for own in hits]
    return np.stack(aucs), np.stack(frocs)


def compare(out: Path, seeds: int) -> None:
    """One line per figure: the mean over seeds of the paired difference, its interval over patients and seeds."""
    by_arm = [figures([out / f"{arm}-{seed}" for seed in range(seeds)]) for arm in ARMS]
    lines = []
    drawn = np.random.default_rng(0).integers(seeds, size=(ROUNDS, seeds))
    for place, name in enumerate(("AUC", "mean fROC sensitivity (IoU 0.1)")):
        random, pretrained = (arm[place] for arm in by_arm)
        for arm, values in zip(ARMS, (random, pretrained), strict=True):
            print(f"{name} {arm}: {values[:, 0].mean():.3f} ({', '.join(f'{value:.3f}' for value in values[:, 0])})")
        difference = pretrained - random
        draws = np.array([difference[chosen, 1 + number].mean() for number, chosen in enumerate(drawn)])
        low, high = np.nanquantile(draws, [0.025, 0.975])
        value = difference[:, 0].mean()
        lines.append(f"{name} pretrained - random: {value:.3f} [{low:.3f}, {high:.3f}] (bar: > 0)")
    print("\n".join(lines))


def seconds_per_step(run: Path) -> float:
    """Of a finished run, validation included."""
    last = read_metrics(run)[-1]
    return float(last["seconds"]) / float(last["step"])


def main() -> None:
    """Run what is missing, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="run of pretraining, or encoder file")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/detection-real"))
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, a thread each")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer for a trial of the benchmark")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out, store = arguments.out, arguments.out / "store"
    if arguments.one:
        arm, seed = arguments.one
        one_run(store, out, arguments.encoder, arguments.steps, arm, int(seed))
        return
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "boxes.json").exists() or not (store / "store.json").exists():
        take_in(arguments.data, out)
    plan = [(arm, seed) for seed in range(arguments.seeds) for arm in ARMS]
    missing = [run for run in plan if not (out / f"{run[0]}-{run[1]}" / "evaluation.json").exists()]
    minutes = len(missing) * arguments.steps * STEP_SECONDS / 60
    print(f"plan: {len(plan)} runs of {arguments.steps} steps, {len(missing)} to do: about {minutes:.0f} core-minutes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--encoder", str(arguments.encoder), "--out", str(out)]
    command += ["--steps", str(arguments.steps), "--one"]
    with ThreadPoolExecutor(arguments.at_once) as pool:
        jobs = [
            pool.submit(subprocess.run, [*command, arm, str(seed)], env=environment, check=True)
            for arm, seed in missing
        ]
    for job in jobs:
        job.result()
    print(f"seconds per step: {np.mean([seconds_per_step(out / f'{arm}-{seed}') for arm, seed in plan]):.3f}")
    compare(out, arguments.seeds)


if __name__ == "__main__":
    main()
