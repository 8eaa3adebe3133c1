"""Does pretraining help to find haemorrhage in volumes? Phantom head CT, 20 slices of 112 x 112 px, the dense net.

A dense net is pretrained on the training and validation patients without labels, by a reduced ct_3d on whole volumes;
from it and from random weights all three heads of hemorrhage_volume are fine-tuned with a tenth of the training
patients' labels, with the same settings and seeds, and asked about the test patients. The validation patients choose
the best step of both. Stopped at any moment, it goes on when run again.
Run: python benchmarks/head_ct_3d.py --out FOLDER [--patients N --steps N --tuning-steps N --seeds N]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from scoutview import pretrain
from scoutview.batches import Archive, LabelledVolumes
from scoutview.encoders import Encoder, load_encoder, untrained_encoder
from scoutview.files import write_json, write_text
from scoutview.ingest import run_ingest
from scoutview.metrics import paired_difference
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.study.fractions import labelled_part
from scoutview.tasks import HemorrhageSettings, finetune_task, hemorrhage_job, predict
from scoutview.tasks.hemorrhage import Hemorrhage, hemorrhage_targets
from scoutview.training import RunFolder

FRACTION = 0.1
SIZE = (20, 112, 96)
KINDS = ("pretrained", "random")
PRETRAINING: dict[str, Any] = {
    "batch_size": 16,
    "head": False,
    "sizes": (SIZE, (20, 56, 48)),
    "short_sides": (56.0, 112.0),
    "prototypes": 8,
    "projection": 8,
    "projector_hidden": 512,
    "queue": 0,
    "queue_start": 0,
    "freeze_prototypes": 20,
    "warmup": 20,
    "workers": 0,
    "precision": "fp32",
    "compile": False,
}
"""Changes to ct_3d."""
FINETUNING = HemorrhageSettings(batch_size=8, learning_rate=2e-3, head_learning_rate=2e-3)


def take_in(out: Path, patients: int) -> None:
    """Patients of whom four in eight are for training, one for validation and three for the test."""
    source = out / "source"
    write_phantoms(source, patients={"ct": patients}, size=112, slices=SIZE[0])
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(row["patient"] for row in rows))}
    splits = ["train"] * 4 + ["validation"] + ["test"] * 3
    lines = [",".join([*rows[0], "split"])]
    lines += [",".join([*row.values(), splits[numbers[row["patient"]] % 8]]) for row in rows]
    write_text(source / "labels.csv", "\n".join(lines) + "\n")
    run_ingest([source / "images"], out / "store", workers=1, labels=source / "labels.csv")


def one_seed(out: Path, kind: str, seed: int, steps: int) -> None:
    """Fine-tune one model with a tenth of the labels, in this process on one thread, and keep its test scores."""
    torch.set_num_threads(1)
    archive, settings = Archive.open([out / "store"]), replace(FINETUNING, seed=seed, steps=steps)
    task = hemorrhage_job(archive, encoder_of(out, kind, seed), [], settings, "cpu").task
    assert isinstance(task, Hemorrhage)
    # Every patient has one volume.
    classes = task.train.values[:, 0].astype(np.int64)
    kept = np.flatnonzero(labelled_part(np.arange(len(classes)).astype(str), classes, FRACTION, seed))
    indices = tuple(task.train.indices[place] for place in kept)
    task = replace(task, train=replace(task.train, indices=indices, values=task.train.values[kept]))
    run = RunFolder(out / f"{kind}-{seed}")
    run.prepare(asdict(settings), {})
    finetune_task(task, settings, run, "cpu")
    run.close()
    test, _ = hemorrhage_targets(LabelledVolumes.of(archive), task.inputs, settings, "test")
    scores = predict(task.model, task.inputs, test.indices, "cpu")
    content = {"labelled": len(indices), "scores": scores[:, 0].tolist(), "targets": test.values[:, 0].tolist()}
    write_json(run.path / "scores.json", content)


def encoder_of(out: Path, kind: str, seed: int) -> Encoder:
    """The pretrained network, or another random one for each seed that is shown the same."""
    if kind == "pretrained":
        return load_encoder(out / "pretraining")
    return replace(
        untrained_encoder("densenet_3d", SIZE, Preprocessing(), 1000 + seed), provenance={"volumes": "whole"}
    )


def mean_of_areas(scores: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> float:
    """Mean AUC over seeds. scores [volume, seed]."""
    return float(np.mean([roc_auc_score(targets, column) for column in scores.T]))


def show(out: Path, seeds: int) -> None:
    """One line per figure; the interval is over patients."""
    arrays = []
    for kind in KINDS:
        entries = [json.loads((out / f"{kind}-{seed}" / "scores.json").read_text()) for seed in range(seeds)]
        arrays.append([np.array([entry["scores"] for entry in entries]).T, np.array(entries[0]["targets"])])
        print(f"head CT, AUC of volumes, {kind} at 10% of labels: {mean_of_areas(*arrays[-1]):.3f} (bar: none)")
    patients = np.arange(len(arrays[0][1])).astype(str)
    gain = paired_difference(mean_of_areas, arrays[0], arrays[1], patients, rounds=1000)
    print(f"head CT, pretrained - random at 10% of labels: {gain.value:+.3f} (bar: >= 0.03)")
    print(f"head CT, the same, 95% interval over patients: {gain.low:+.3f} to {gain.high:+.3f} (bar: low > 0)")


def main() -> None:
    """Draw, pretrain, fine-tune what is missing, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/head-ct-3d"))
    parser.add_argument("--patients", type=int, default=480)
    parser.add_argument("--steps", type=int, default=150, help="of the pretraining")
    parser.add_argument("--tuning-steps", type=int, default=100, help="of each fine-tuning")
    parser.add_argument("--seeds", type=int, default=3, help="fine-tunings of each kind")
    parser.add_argument("--at-once", type=int, default=2, help="fine-tunings side by side, a thread each")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out
    if arguments.one:
        one_seed(out, arguments.one[0], int(arguments.one[1]), arguments.tuning_steps)
        return
    started = time.monotonic()
    if not (out / "store" / "store.json").exists():
        take_in(out, arguments.patients)
    print(f"a pretraining of {arguments.steps} steps, {2 * arguments.seeds} fine-tunings of {arguments.tuning_steps}")
    pretrain([out / "store"], out=out / "pretraining", recipe="ct_3d", steps=arguments.steps, **PRETRAINING)
    command = [sys.executable, __file__, *sys.argv[1:], "--one"]
    missing = [(kind, seed) for seed in range(arguments.seeds) for kind in KINDS]
    missing = [(kind, seed) for kind, seed in missing if not (out / f"{kind}-{seed}" / "scores.json").exists()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with ThreadPoolExecutor(arguments.at_once) as pool:
        calls = [[*command, kind, str(seed)] for kind, seed in missing]
        runs = [pool.submit(subprocess.run, call, env=environment, check=True) for call in calls]
        for run in runs:
            run.result()
    show(out, arguments.seeds)
    print(f"head CT, seconds of this call: {time.monotonic() - started:.0f} (bar: none)")


if __name__ == "__main__":
    main()
