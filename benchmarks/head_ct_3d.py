"""Table IV on phantoms: what types, slices and pretraining add to volumes' labels. Head CT, 20 slices of 112 x 96 px.

A dense net is pretrained on the training and validation patients without labels, by a reduced ct_3d. Four columns are
fine-tuned with the same settings and seeds, from random weights with the heads volume, volume + types, volume + types +
slices, and from the pretrained weights with all three; at each share of the training patients' labels. The validation
patients choose the best step; the test patients are asked about. Stopped at any moment, it goes on when run again.
Run: python benchmarks/head_ct_3d.py --out FOLDER [--patients N --steps N --seeds N --fractions F ... --columns C ...]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
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
from scoutview.metrics import paired_difference, patient_bootstrap
from scoutview.phantoms import write_phantoms
from scoutview.preprocessing import Preprocessing
from scoutview.study.fractions import labelled_part
from scoutview.tasks import HemorrhageSettings, finetune_task, predict
from scoutview.tasks.hemorrhage import HEADS, Head, hemorrhage_targets, hemorrhage_task
from scoutview.tasks.inputs import VolumeInputs, volume_reader
from scoutview.training import RunFolder

SIZE = (20, 112, 96)
SCAN = 192
"""px of the slices that are drawn; the brain fills three fifths of them."""
COLUMNS: dict[str, tuple[bool, tuple[Head, ...]]] = {
    "volumes": (False, HEADS[:1]),
    "+ types": (False, HEADS[:2]),
    "+ slices": (False, HEADS),
    "+ pretraining": (True, HEADS),
}
"""Name -> (whether from the pretrained weights, heads)."""
PRETRAINING: dict[str, Any] = {
    "batch_size": 16,
    "crops": (2,),
    "sizes": (SIZE,),
    "visible": ((0.6, 1.0),),
    "gamma_chance": 0.1,
    "linear_chance": 0.2,
    "prototypes": 8,
    "projection": 6,
    "projector_hidden": 512,
    "queue": 0,
    "queue_start": 0,
    "freeze_prototypes": 30,
    "learning_rate": 1.0,
    "final_learning_rate": 0.001,
    "warmup": 30,
    "workers": 0,
}
"""Changes to ct_3d; as in small_cpu, views overlap and keep their brightness, or the loss stays at ln K here."""
Cell = tuple[str, float, int]


def take_in(out: Path, patients: int) -> None:
    """Patients of whom four in eight are for training, one for validation and three for the test."""
    source = out / "source"
    write_phantoms(source, patients={"ct": patients}, seed=43, size=SCAN, slices=SIZE[0])
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(row["patient"] for row in rows))}
    splits = ["train"] * 4 + ["validation"] + ["test"] * 3
    lines = [",".join([*rows[0], "split"])]
    lines += [",".join([*row.values(), splits[numbers[row["patient"]] % 8]]) for row in rows]
    write_text(source / "labels.csv", "\n".join(lines) + "\n")
    run_ingest([source / "images"], out / "store", workers=1, labels=source / "labels.csv")


def folder_of(out: Path, cell: Cell) -> Path:
    """Of the run of a column, a share of labels and a seed."""
    column, fraction, seed = cell
    return out / f"{column.removeprefix('+ ')}-{fraction:g}-{seed}"


def encoder_of(out: Path, pretrained: bool, seed: int) -> Encoder:
    """The pretrained network, or another random one for each seed that is shown the same heads."""
    if pretrained:
        return load_encoder(out / "pretraining")
    return untrained_encoder("densenet_3d", SIZE, Preprocessing(), 1000 + seed)


def run_cells(out: Path, cells: list[Cell], common: HemorrhageSettings) -> None:
    """Fine-tune what is missing, in this process on one thread; heads are read once for all."""
    torch.set_num_threads(1)
    cases = LabelledVolumes.of(Archive.open([out / "store"]))
    inputs = VolumeInputs(volume_reader(encoder_of(out, False, 0), cases, "head"), SIZE)
    for cell in cells:
        column, fraction, seed = cell
        pretrained, heads = COLUMNS[column]
        settings = replace(common, heads=heads, seed=seed)
        task, _ = hemorrhage_task(cases, inputs, encoder_of(out, pretrained, seed), settings, "cpu")
        # Every patient has one volume.
        classes = task.train.values[:, 0].astype(np.int64)
        kept = np.flatnonzero(labelled_part(np.arange(len(classes)).astype(str), classes, fraction, seed))
        indices = tuple(task.train.indices[place] for place in kept)
        task = replace(task, train=replace(task.train, indices=indices, values=task.train.values[kept]))
        run = RunFolder(folder_of(out, cell))
        run.prepare(asdict(settings), {})
        finetune_task(task, settings, run, "cpu")
        run.close()
        test, _ = hemorrhage_targets(cases, inputs, settings, "test")
        scores = predict(task.model, inputs, test.indices, "cpu")
        content = {"labelled": len(indices), "scores": scores[:, 0].tolist(), "targets": test.values[:, 0].tolist()}
        write_json(run.path / "scores.json", content)
        print(f"{column} at {fraction:.0%}, seed {seed}: AUC {roc_auc_score(content['targets'], scores[:, 0]):.3f}")


def mean_of_areas(scores: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> float:
    """Mean AUC over seeds. scores [volume, seed]."""
    return float(np.mean([roc_auc_score(targets, column) for column in scores.T]))


def show(out: Path, columns: list[str], fractions: list[float], seeds: int) -> None:
    """Table IV, then one line per figure; intervals are over patients, of the mean of seeds."""
    found: dict[tuple[str, float], npt.NDArray[np.float64]] = {}
    print(f"| labelled volumes | {' | '.join(columns)} |\n{'|---' * (len(columns) + 1)}|")
    for fraction in fractions:
        cells = []
        for column in columns:
            files = [folder_of(out, (column, fraction, seed)) / "scores.json" for seed in range(seeds)]
            entries = [json.loads(file.read_text()) for file in files]
            found[column, fraction] = np.array([entry["scores"] for entry in entries]).T
            targets, labelled = np.array(entries[0]["targets"]), entries[0]["labelled"]
            patients = np.arange(len(targets)).astype(str)
            area = patient_bootstrap(mean_of_areas, found[column, fraction], targets, patients=patients, rounds=1000)
            cells.append(f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]")
        print(f"| {labelled} | {' | '.join(cells)} |")
    print()
    first, _, random, last = COLUMNS
    for fraction in fractions:
        for name, other in (("last - first column", first), ("pretrained - random, all heads", random)):
            if not {last, other} <= set(columns):
                continue
            pair = ((found[last, fraction], targets), (found[other, fraction], targets))
            gain = paired_difference(mean_of_areas, *pair, patients, rounds=1000)
            text = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            print(f"head CT, {name} at {fraction:.0%} of labels: {text} (bar: >= +0.05)")


def main() -> None:
    """Draw, pretrain, fine-tune what is missing, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/head-ct-3d"))
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--steps", type=int, default=400, help="of the pretraining")
    parser.add_argument("--tuning-steps", type=int, default=600, help="of a fine-tuning")
    parser.add_argument("--seeds", type=int, default=2, help="fine-tunings of each kind")
    parser.add_argument("--fractions", type=float, nargs="+", default=[1.0, 0.1], help="shares of labelled volumes")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="of a fine-tuning")
    parser.add_argument("--mirrored", type=float, default=0.0, help="chance that a fine-tuning sees a mirrored volume")
    parser.add_argument("--columns", nargs="+", default=[*COLUMNS], choices=[*COLUMNS])
    parser.add_argument("--at-once", type=int, default=2, help="fine-tunings side by side, a thread each")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out
    started = time.monotonic()
    cells = [(c, f, seed) for seed in range(arguments.seeds) for f in arguments.fractions for c in arguments.columns]
    missing = [cell for cell in cells if not (folder_of(out, cell) / "scores.json").exists()]
    if arguments.part is not None:
        mine = [cell for cell in cells[arguments.part :: arguments.at_once] if cell in missing]
        common = HemorrhageSettings(
            steps=arguments.tuning_steps,
            batch_size=8,
            learning_rate=arguments.learning_rate,
            head_learning_rate=arguments.learning_rate,
            mirrored=arguments.mirrored,
        )
        run_cells(out, mine, common)
        return
    if not (out / "store" / "store.json").exists():
        take_in(out, arguments.patients)
    print(f"a pretraining of {arguments.steps} steps, {len(missing)} fine-tunings of {arguments.tuning_steps}")
    pretrain([out / "store"], out=out / "pretraining", recipe="ct_3d", steps=arguments.steps, **PRETRAINING)
    command = [sys.executable, __file__, *sys.argv[1:], "--part"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    parts = [subprocess.Popen([*command, str(part)], env=environment) for part in range(arguments.at_once)]
    if sum(part.wait() for part in parts):
        sys.exit("a fine-tuning failed: see above, and run again")
    show(out, arguments.columns, arguments.fractions, arguments.seeds)
    print(f"head CT, seconds of this call: {time.monotonic() - started:.0f} (bar: none)")


if __name__ == "__main__":
    main()
