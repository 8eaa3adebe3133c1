"""What each setting of a pretraining does on small real archives: short runs that differ in one setting.

Every variant is scored on the training and validation splits alone (the test split is neither pretrained on nor
scored): a logistic regression on frozen features learns from the labels of a tenth of the patients and is asked about
all the others, in ten draws, on four tasks. Variants that are there are not run again.
Run: python benchmarks/recipe.py --data FOLDER --out FOLDER [--only NAME ...] [--at-once 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from real_sets import DATA, LABELS, take_in
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from scoutview.batches import Archive
from scoutview.encoders import Encoder, load_encoder, untrained_encoder
from scoutview.files import write_json
from scoutview.images import MODALITIES
from scoutview.metrics import macro_auc
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining import TrainingData, load_recipe, resolve, run_pretraining
from scoutview.study.fractions import labelled_part
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import RunFolder, make_fabric
from scoutview.training.run_folder import read_metrics

SEEN = ("train", "validation")
FRACTION, DRAWS, STRENGTHS = 0.1, 10, (1e-3, 1e-2, 1e-1)
SIZE, RAW_SIZE = 96, 32
BASE: dict[str, Any] = {"steps": 300, "warmup": 60, "workers": 0, "probe_every": 0, "checkpoint_every": 100}
"""The shipped small_cpu, shortened."""
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "projection 128": {"projection": 128},
    "projection 16": {"projection": 16},
    "projection 4": {"projection": 4},
    "prototypes 8": {"prototypes": 8},
    "prototypes 32": {"prototypes": 32},
    "views more local": {"visible": [[0.4, 1.0], [0.2, 0.5]]},
    "views more global": {"visible": [[0.8, 1.0], [0.5, 0.8]]},
    "no small views": {"crops": [3], "sizes": [64], "visible": [[0.6, 1.0]]},
    "no intensity change": {"energy": 0.0, "gamma_chance": 0.0, "linear_chance": 0.0},
    "energy 0.5 alone": {"energy": 0.5, "gamma_chance": 0.0, "linear_chance": 0.0},
    "gamma 0.5 alone": {"energy": 0.0, "gamma_chance": 0.5, "linear_chance": 0.0},
    "linear 0.5 alone": {"energy": 0.0, "gamma_chance": 0.0, "linear_chance": 0.5},
    "the paper's 0.5 each": {"energy": 0.5, "gamma_chance": 0.5, "linear_chance": 0.5},
    "another seed": {"seed": 1},
    "rate 2": {"learning_rate": 2.0},
    "rate 0.5": {"learning_rate": 0.5},
    "X-ray alone": {"only": "xray", "batch_size": 24},
    "MR alone": {"only": "mr", "batch_size": 24},
    "one image per patient": {"one_per_patient": True},
    "epsilon 0.05": {"epsilon": 0.05},
    "prototypes never frozen": {"freeze_prototypes": 0},
    "prototypes frozen throughout": {"freeze_prototypes": 300},
    "projector 256": {"projector_hidden": 256},
    "batch 48, twice the steps": {"batch_size": 48, "steps": 600, "prototypes": 8, "warmup": 120},
    "twice as wide": {"encoder": "resnet18w0.5"},
    "twice as long": {"steps": 600},
}


def train(store: Path, out: Path, changes: dict[str, Any]) -> None:
    """One variant in this process, a thread."""
    torch.set_num_threads(1)
    values = {**BASE, **changes}
    archive = part_of(Archive.open([store]), values.pop("only", None), values.pop("one_per_patient", False))
    recipe = load_recipe("small_cpu", values)
    images = {part: len(archive.indices(part, recipe.splits)) for part in archive.modalities(recipe.splits)}
    settings = resolve(recipe, images)
    run = RunFolder(out)
    run.prepare(settings.config(), settings.reasons)
    data = TrainingData.of(archive, recipe)
    run_pretraining(data, settings, run, make_fabric(settings.precision), {"variant": out.name})
    run.close()


def part_of(archive: Archive, modality: str | None, one_per_patient: bool) -> Archive:
    """The archive with one modality, or with the first image of every patient (or group of near-duplicates)."""
    first: dict[str, int] = {}
    for index, row in enumerate(archive.rows):
        first.setdefault(row.patient, index)
    kept = [
        index
        for index, row in enumerate(archive.rows)
        if modality in (None, row.modality) and (not one_per_patient or first[row.patient] == index)
    ]
    return archive.only(kept)


def score(features: npt.NDArray[np.float32], tasks: dict[str, Any]) -> dict[str, float]:
    """Mean AUC over the draws per task, at the strength that is best over all tasks."""
    by_strength = []
    for strength in STRENGTHS:
        table = {}
        for label, (places, patients, classes) in tasks.items():
            aucs = []
            for draw in range(DRAWS):
                taught = labelled_part(patients, classes, FRACTION, draw)
                mine = features[places]
                scaler = StandardScaler().fit(mine[taught])
                model = LogisticRegression(C=strength, max_iter=300).fit(
                    scaler.transform(mine[taught]), classes[taught]
                )
                aucs.append(macro_auc(model.predict_proba(scaler.transform(mine[~taught])), classes[~taught]))
            table[label] = float(np.mean(aucs))
        by_strength.append(table)
    return max(by_strength, key=lambda table: sum(table.values()))


def task_parts(archive: Archive) -> tuple[list[int], dict[str, Any]]:
    """All images seen in pretraining, and per label (places among them, patients, class numbers)."""
    seen = archive.indices(splits=SEEN)
    place = {index: number for number, index in enumerate(seen)}
    tasks = {}
    for label in LABELS:
        indices = archive.labelled(label, SEEN)
        _, classes = np.unique(archive.label_values(label, indices), return_inverse=True)
        tasks[label] = (np.array([place[index] for index in indices]), archive.patients(indices), classes)
    return seen, tasks


@torch.inference_mode()
def features_of(encoder: Encoder, inputs: torch.Tensor) -> npt.NDArray[np.float32]:
    """Frozen features [image, F]."""
    network = encoder.network.eval()
    return torch.cat([network(part) for part in inputs.split(64)]).numpy()


def inputs_of(archive: Archive, seen: list[int], out: Path, size: int) -> torch.Tensor:
    """Network inputs of all images [image, 1, row, column]; kept on disk, since every variant needs them."""
    file = out / f"inputs-{size}.npy"
    if not file.exists():
        np.save(file, NetworkInputs(archive, Preprocessing(), size).batch(seen).numpy())
    return torch.from_numpy(np.load(file))


def folder_name(name: str) -> str:
    """The variant's name as that of a folder."""
    return name.replace(" ", "-").replace(",", "").replace("'", "")


def one_variant(store: Path, out: Path, name: str) -> None:
    """Train and score."""
    folder = out / "runs" / folder_name(name)
    if not (folder / "encoder.safetensors").exists():
        train(store, folder, VARIANTS[name])
    archive = Archive.open([store])
    seen, tasks = task_parts(archive)
    lines = [line for line in read_metrics(folder) if "modalities" in line]
    last = {
        modality: float(np.mean([line["modalities"][modality]["loss"] - values["ln_k"] for line in lines[-3:]]))
        for modality, values in lines[-1]["modalities"].items()
    }
    aucs = score(features_of(load_encoder(folder), inputs_of(archive, seen, out, SIZE)), tasks)
    content = {"name": name, "seconds": lines[-1]["seconds"], "loss - ln K": last, "aucs": aucs}
    write_json(out / "scores" / f"{folder.name}.json", content)


def baselines(store: Path, out: Path) -> None:
    """Untrained networks and raw pixels, scored the same way."""
    archive = Archive.open([store])
    seen, tasks = task_parts(archive)
    entries = {"raw pixels": score(inputs_of(archive, seen, out, RAW_SIZE).flatten(1).numpy(), tasks)}
    for architecture in ("resnet18w0.25", "resnet18w0.5"):
        encoder = untrained_encoder(architecture, SIZE, Preprocessing())
        entries[f"untrained {architecture}"] = score(features_of(encoder, inputs_of(archive, seen, out, SIZE)), tasks)
    for name, aucs in entries.items():
        content = {"name": name, "seconds": 0.0, "loss - ln K": {}, "aucs": aucs}
        write_json(out / "scores" / f"{folder_name(name)}.json", content)


def show(out: Path) -> None:
    """A Markdown table of all scores, then one line per figure."""
    print("| variant | mean | " + " | ".join(LABELS) + " | loss - ln K: X-ray, CT, MR, US | s |")
    print("|---" * (len(LABELS) + 4) + "|")
    entries = [json.loads(file.read_text()) for file in sorted((out / "scores").glob("*.json"))]
    order = ["raw pixels", "untrained resnet18w0.25", "untrained resnet18w0.5", *VARIANTS]
    entries.sort(key=lambda entry: order.index(entry["name"]))
    for entry in entries:
        mean = np.mean(list(entry["aucs"].values()))
        aucs = " | ".join(f"{entry['aucs'][label]:.3f}" for label in LABELS)
        losses = ", ".join(
            f"{entry['loss - ln K'][name]:.2f}" if name in entry["loss - ln K"] else "–" for name in MODALITIES
        )
        print(f"| {entry['name']} | {mean:.3f} | {aucs} | {losses} | {entry['seconds']:.0f} |")
    for entry in entries:
        mean = np.mean(list(entry["aucs"].values()))
        print(f"{entry['name']}, mean probe AUC at a tenth of the labels: {mean:.3f} (bar: none)")


def main() -> None:
    """Run what is missing, then show everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--at-once", type=int, default=2, help="variants that train side by side, a thread each")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out, store = arguments.out, arguments.out / "store"
    if arguments.variant:
        one_variant(store, out, arguments.variant)
        return
    if not store.exists():
        take_in(arguments.data, out)
    (out / "scores").mkdir(parents=True, exist_ok=True)
    if not (out / "scores" / "raw-pixels.json").exists():
        baselines(store, out)
    known = {json.loads(file.read_text())["name"] for file in (out / "scores").glob("*.json")}
    command = [sys.executable, __file__, "--out", str(out), "--variant"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with ThreadPoolExecutor(arguments.at_once) as pool:
        wanted = [name for name in arguments.only if name not in known]
        list(pool.map(lambda name: subprocess.run([*command, name], env=environment, check=True), wanted))
    show(out)


if __name__ == "__main__":
    main()
