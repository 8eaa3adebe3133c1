"""Does pretraining help a network for volumes? AdrenalMNIST3D: 1,286 shapes of adrenal glands, normal or not, 5 folds.

Per fold, a small 3D network is pretrained on the volumes of the other folds without their labels; from it and from
random weights a classifier is fine-tuned with a tenth of their labels, with the same settings and seeds, and asked
about the fold. An eighth of the other folds is the validation part of the fine-tuning; it chooses the best step, and
for each of the two the better of two rates. Volumes are binary masks of 64^3, of which every second slice is merged
with the next. Only rescale and crop make the views: a mask has no intensities to change. Settings were chosen with
--choose, which scores the validation part of fold 0 and looks at no fold's test volumes. Stopped at any moment, it
goes on when run again.
Run: python benchmarks/adrenal_3d.py --data FILE.npz --out FOLDER [--steps N --folds N --seeds N --at-once N]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from real_sets import DATA
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from scoutview import pretrain
from scoutview.batches import Archive
from scoutview.encoders import Encoder, load_encoder, untrained_encoder
from scoutview.files import write_json
from scoutview.ingest import run_ingest
from scoutview.metrics import Interval, paired_difference
from scoutview.preprocessing import Preprocessing
from scoutview.study.fractions import labelled_part
from scoutview.tasks import FinetuneSettings, Targets, class_targets, finetune_classification, predict
from scoutview.tasks.inputs import Inputs, cases_for, inputs_for
from scoutview.training import RunFolder
from scoutview.training.run_folder import read_metrics

FOLDS, FRACTION = 5, 0.1
SIZE = (32, 32, 32)
LABEL = "abnormal"
KINDS = ("pretrained", "random")
EVERYTHING = ("train", "validation", "test")
PRETRAINING: dict[str, Any] = {
    "encoder": "resnet18w0.25_3d",
    "batch_size": 48,
    "crops": (3,),
    "sizes": (SIZE,),
    "visible": ((0.5, 1.0),),
    "energy": 0.0,
    "gamma_chance": 0.0,
    "linear_chance": 0.0,
    "learning_rate": 2.0,
    "input_size": SIZE,
    "workers": 0,
    "probe_every": 0,
    "compile": False,
    "precision": "fp32",
}
"""Changes to small_cpu."""
FINETUNING = FinetuneSettings(steps=100, batch_size=32, head_learning_rate=2e-3)
RATES = (5e-4, 2e-3)
"""Of the encoder; the better one on the validation parts of all folds and seeds counts, for each kind."""


def take_in(data: Path, out: Path) -> None:
    """The volumes in 32 slices of 64 x 64, with their labels and folds, as a store."""
    with np.load(data) as arrays:
        volumes = np.concatenate([arrays["train_images"], arrays["val_images"]])
        labels = np.concatenate([arrays["train_labels"], arrays["val_labels"]])[:, 0]
    folds = np.zeros(len(labels), dtype=np.int64)
    for fold, (_, mine) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels)):
        folds[mine] = fold
    source = out / "source"
    source.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, volume in enumerate(volumes):
        small = volume.reshape(64, 64, 32, 2).mean(3).round().astype(np.int16)
        # Ingest takes what has few values for a label map, and leaves out slices of one value and those it has: a faint
        # ramp at the border, with the slice's number as bits of one grey level, is none of these.
        place = np.arange(64)[:, None]
        small[:, 0] = np.maximum(small[:, 0], place // 2 + (32 * number + np.arange(32) >> place & 1))
        name = f"adrenal-{number:04d}.nii"
        nib.Nifti1Image(small, np.eye(4)).to_filename(source / name)
        rows.append([name, name, int(labels[number]), int(folds[number])])
    with (source / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "patient", LABEL, "fold"], *rows])
    run_ingest([source], out / "store", workers=1, labels=source / "labels.csv", modality="mr")


@dataclass(frozen=True)
class Fold:
    """The volumes of a store from the view of one fold."""

    archive: Archive
    number: int

    @cached_property
    def targets(self) -> Targets:
        """Of all volumes."""
        return class_targets(cases_for(untrained(0), self.archive), [LABEL], EVERYTHING)

    @cached_property
    def folds(self) -> npt.NDArray[np.int64]:
        """The fold of every volume."""
        values = cases_for(untrained(0), self.archive).label_values("fold", self.targets.indices)
        return np.array(values, dtype=np.int64)

    @cached_property
    def validation(self) -> npt.NDArray[np.bool_]:
        """An eighth of the other folds."""
        others = np.flatnonzero(self.folds != self.number)
        classes = self.targets.values[others, 0].astype(np.int64)
        flags = np.zeros(len(self.folds), dtype=np.bool_)
        flags[others] = labelled_part(np.arange(len(others)).astype(str), classes, 1 / 8, 1000 + self.number)
        return flags

    def labelled(self, seed: int) -> npt.NDArray[np.bool_]:
        """A tenth of the others."""
        others = np.flatnonzero((self.folds != self.number) & ~self.validation)
        classes = self.targets.values[others, 0].astype(np.int64)
        flags = np.zeros(len(self.folds), dtype=np.bool_)
        flags[others] = labelled_part(np.arange(len(others)).astype(str), classes, FRACTION, seed)
        return flags

    def part(self, flags: npt.NDArray[np.bool_]) -> Targets:
        """The targets of some volumes."""
        places = np.flatnonzero(flags)
        indices = tuple(self.targets.indices[place] for place in places)
        return replace(self.targets, indices=indices, values=self.targets.values[places])


def untrained(seed: int) -> Encoder:
    """Random weights."""
    return untrained_encoder(PRETRAINING["encoder"], SIZE, Preprocessing(), seed)


def one_fold(out: Path, number: int, steps: int, seeds: int, choose: bool, changes: dict[str, Any]) -> None:
    """Pretrain and fine-tune what is missing of a fold, in this process on one thread."""
    torch.set_num_threads(1)
    archive = Archive.open([out / "store"])
    fold, folder = Fold(archive, number), folder_of(out, number, choose)
    others = f"series in (select target from annotations where name = 'fold' and value <> '{number}')"
    settings = {**PRETRAINING, "steps": steps, "splits": EVERYTHING, "where": others, **changes}
    run = pretrain([out / "store"], out=folder / "pretraining", recipe="small_cpu", **settings)
    inputs = inputs_for(untrained(0), cases_for(untrained(0), archive))
    asked = fold.validation if choose else fold.folds == number
    for seed in range(seeds):
        for kind, rate in itertools.product(KINDS, RATES):
            file = scores_file(folder, kind, rate, seed)
            if not file.exists():
                encoder = load_encoder(run) if kind == "pretrained" else untrained(1000 + seed)
                tuning = replace(FINETUNING, seed=seed, learning_rate=rate)
                scores = fine_tuned(fold, encoder, inputs, tuning, asked, file.parent)
                best = max(line["validation_auc"] for line in read_metrics(file.parent) if "validation_auc" in line)
                values = fold.part(asked).values[:, 0].tolist()
                write_json(file, {"scores": scores, "targets": values, "validation": best})


def scores_file(folder: Path, kind: str, rate: float, seed: int) -> Path:
    """Where the scores of a fine-tuning lie."""
    return folder / f"{kind}-{rate:g}-{seed}" / "scores.json"


def fine_tuned(
    fold: Fold, encoder: Encoder, inputs: Inputs, settings: FinetuneSettings, asked: npt.NDArray[np.bool_], folder: Path
) -> list[float]:
    """Scores of the volumes that are asked about."""
    run = RunFolder(folder)
    run.prepare(asdict(settings), {})
    train, validation = fold.part(fold.labelled(settings.seed)), fold.part(fold.validation)
    cases = cases_for(encoder, fold.archive)
    model = finetune_classification(cases, encoder, [LABEL], train, validation, settings, run, "cpu", inputs)
    run.close()
    scores: list[float] = predict(model, inputs, fold.part(asked).indices, "cpu")[:, 0].tolist()
    return scores


def folder_of(out: Path, number: int, choose: bool) -> Path:
    """Where the runs of a fold lie."""
    return out / ("choose" if choose else f"fold-{number}")


def mean_of_areas(
    scores: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], folds: npt.NDArray[np.int64]
) -> float:
    """Mean AUC over folds and seeds. scores [volume, seed]."""
    areas = [
        roc_auc_score(targets[folds == fold], column[folds == fold])
        for fold in np.unique(folds)
        for column in scores.T
        if 0 < targets[folds == fold].sum() < (folds == fold).sum()
    ]
    return float(np.mean(areas))


def best_rate(out: Path, kind: str, folds: int, seeds: int, choose: bool) -> float:
    """The rate with the best mean validation AUC over folds and seeds."""

    def mean(rate: float) -> float:
        places = itertools.product(range(folds), range(seeds))
        files = [scores_file(folder_of(out, fold, choose), kind, rate, seed) for fold, seed in places]
        return float(np.mean([json.loads(file.read_text())["validation"] for file in files]))

    return max(RATES, key=mean)


def show(out: Path, folds: int, seeds: int, choose: bool) -> None:
    """One line per figure; the interval is over volumes, all folds together."""
    scores: dict[str, list[npt.NDArray[np.float64]]] = {kind: [] for kind in KINDS}
    targets, numbers = [], []
    chosen = {kind: best_rate(out, kind, folds, seeds, choose) for kind in KINDS}
    for fold in range(folds):
        folder = folder_of(out, fold, choose)
        for kind in KINDS:
            files = [scores_file(folder, kind, chosen[kind], seed) for seed in range(seeds)]
            entries = [json.loads(file.read_text()) for file in files]
            scores[kind].append(np.array([entry["scores"] for entry in entries]).T)
        targets += entries[0]["targets"]
        numbers += [fold] * len(entries[0]["targets"])
        line = [line for line in read_metrics(folder / "pretraining") if "modalities" in line][-1]
        mine = np.array(entries[0]["targets"])
        areas = [mean_of_areas(scores[kind][-1], mine, np.full(len(mine), fold)) for kind in KINDS]
        print(f"fold {fold}: pretrained {areas[0]:.3f}, random {areas[1]:.3f}; loss {line['modalities']['mr']}")
    arrays = [[np.concatenate(scores[kind]), np.array(targets), np.array(numbers)] for kind in KINDS]
    for kind, values in zip(KINDS, arrays, strict=True):
        print(f"rate of {kind}, chosen on validation: {chosen[kind]:g}")
        print(f"adrenal, mean AUC, {kind} at 10% of labels: {mean_of_areas(*values):.3f} (bar: none)")
    volumes = np.arange(len(targets)).astype(str)
    gain: Interval = paired_difference(mean_of_areas, arrays[0], arrays[1], volumes, rounds=500)
    print(f"adrenal, pretrained - random at 10% of labels: {gain.value:+.3f} (bar: >= 0.03)")
    print(f"adrenal, the same, 95% interval over volumes: {gain.low:+.3f} to {gain.high:+.3f} (bar: low > 0)")


def main() -> None:
    """Take in, run the folds that are missing, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA / "adrenalmnist3d_64_trainval.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/adrenal-3d"))
    parser.add_argument("--steps", type=int, default=400, help="of each pretraining")
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of the five")
    parser.add_argument("--seeds", type=int, default=3, help="fine-tunings per fold and kind")
    parser.add_argument("--at-once", type=int, default=2, help="folds side by side, a thread each")
    parser.add_argument("--choose", action="store_true", help="fold 0 alone, scored on its validation part")
    parser.add_argument("--changes", type=json.loads, default={}, help="JSON of settings of the pretraining")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out, folds = arguments.out, 1 if arguments.choose else arguments.folds
    if arguments.one is not None:
        changes = {key: tuplified(value) for key, value in arguments.changes.items()}
        one_fold(out, arguments.one, arguments.steps, arguments.seeds, arguments.choose, changes)
        return
    if not (out / "store" / "store.json").exists():
        take_in(arguments.data, out)
    trained = len(KINDS) * len(RATES) * folds * arguments.seeds
    print(f"{folds} pretrainings of {arguments.steps} steps, {trained} fine-tunings of {FINETUNING.steps} steps")
    started = time.monotonic()
    command = [sys.executable, __file__, *sys.argv[1:], "--one"]
    with ThreadPoolExecutor(arguments.at_once) as pool:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        runs = [pool.submit(subprocess.run, [*command, str(n)], env=environment, check=True) for n in range(folds)]
        for run in runs:
            run.result()
    show(out, folds, arguments.seeds, arguments.choose)
    print(f"adrenal, seconds of this call: {time.monotonic() - started:.0f} (bar: none)")


def tuplified(value: Any) -> Any:
    """Lists as tuples."""
    return tuple(tuplified(item) for item in value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
