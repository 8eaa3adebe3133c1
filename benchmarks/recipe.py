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
from scoutview.metrics import macro_auc
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining import load_recipe, resolve, run_pretraining
from scoutview.study.fractions import labelled_part
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import RunFolder, make_fabric
from scoutview.training.run_folder import read_metrics

SEEN = ("train", "validation")
FRACTIONS, DRAWS, STRENGTHS = (0.1, 0.5), 10, (1e-3, 1e-2, 1e-1)
SIZES = (64, 96)

BASE: dict[str, Any] = {
    "encoder": "resnet18w0.25",
    "steps": 600,
    "batch_size": 96,
    "crops": [2, 4],
    "sizes": [64, 32],
    "visible": [[0.6, 1.0], [0.35, 0.6]],
    "energy": 0.2,
    "gamma_chance": 0.1,
    "linear_chance": 0.2,
    "prototypes": 16,
    "queue": "auto",
    "queue_start": 100,
    "freeze_prototypes": 100,
    "learning_rate": 1.0,
    "final_learning_rate": 0.001,
    "warmup": 60,
    "projector_hidden": 1024,
    "workers": 0,
    "probe_every": 0,
    "checkpoint_every": 100,
    "log_every": 20,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "prototypes 64": {"prototypes": 64},
    "rate 2": {"learning_rate": 2.0},
    "batch 48, twice the steps": {"batch_size": 48, "steps": 1200, "prototypes": 8, "warmup": 120},
    "more local": {"visible": [[0.35, 1.0], [0.15, 0.4]]},
    "paper's intensities": {"energy": 0.5, "gamma_chance": 0.5, "linear_chance": 0.5},
    "crops only": {"energy": 0.0, "gamma_chance": 0.0, "linear_chance": 0.0},
    "width 0.5": {"encoder": "resnet18w0.5"},
    "three times as long": {"steps": 1800},
    "energy only": {"energy": 0.5, "gamma_chance": 0.0, "linear_chance": 0.0},
    "gamma only": {"energy": 0.0, "gamma_chance": 0.5, "linear_chance": 0.0},
    "linear only": {"energy": 0.0, "gamma_chance": 0.0, "linear_chance": 0.5},
    "no local views": {"crops": [3], "sizes": [64], "visible": [[0.6, 1.0]]},
    "prototypes 32": {"prototypes": 32},
    "no queue": {"queue": 0},
    "epsilon 0.05": {"epsilon": 0.05},
    "freeze 0": {"freeze_prototypes": 0},
    "freeze 400": {"freeze_prototypes": 400},
    "projector 256": {"projector_hidden": 256},
    "rate 0.5": {"learning_rate": 0.5},
    "larger views": {"sizes": [96, 48]},
    "another seed": {"seed": 1},
}


def train(store: Path, out: Path, name: str) -> None:
    """One variant in this process."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    archive = Archive.open([store])
    recipe = load_recipe_of({**BASE, **VARIANTS[name]}, out)
    images = {part: len(archive.indices(part, recipe.splits)) for part in archive.modalities(recipe.splits)}
    settings = resolve(recipe, images)
    run = RunFolder(out)
    run.prepare(settings.config(), settings.reasons)
    run_pretraining(archive, settings, run, make_fabric(settings.precision), {"variant": name})
    run.close()


def load_recipe_of(values: dict[str, Any], out: Path) -> Any:
    """The values as a recipe, by way of a file as a user would write it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.parent / f"{out.name}.yaml"
    file.write_text(json.dumps(values))  # JSON is YAML
    return load_recipe(file, {})


def score(features: npt.NDArray[np.float32], tasks: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean AUC over the draws per task and fraction, at the strength that is best over all tasks."""
    by_strength = []
    for strength in STRENGTHS:
        table: dict[str, dict[str, float]] = {}
        for label, (places, patients, classes) in tasks.items():
            values = {str(fraction): 0.0 for fraction in FRACTIONS}
            for fraction in FRACTIONS:
                aucs = []
                for draw in range(DRAWS):
                    taught = labelled_part(patients, classes, fraction, draw)
                    mine = features[places]
                    scaler = StandardScaler().fit(mine[taught])
                    model = LogisticRegression(C=strength, max_iter=300).fit(
                        scaler.transform(mine[taught]), classes[taught]
                    )
                    aucs.append(macro_auc(model.predict_proba(scaler.transform(mine[~taught])), classes[~taught]))
                values[str(fraction)] = float(np.mean(aucs))
            table[label] = values
        by_strength.append(table)
    return max(by_strength, key=lambda table: sum(entry["0.1"] for entry in table.values()))


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


def score_sizes(encoder: Encoder, inputs: dict[int, torch.Tensor], tasks: dict[str, Any]) -> dict[str, Any]:
    """The scores by input size in px."""
    return {str(size): score(features_of(encoder, images), tasks) for size, images in inputs.items()}


def inputs_of(archive: Archive, seen: list[int], out: Path) -> dict[int, torch.Tensor]:
    """Network inputs of all images, by size; kept on disk, since every variant needs them."""
    result = {}
    for size in (32, *SIZES):
        file = out / f"inputs-{size}.npy"
        if not file.exists():
            np.save(file, NetworkInputs(archive, Preprocessing(), size).batch(seen).numpy())
        result[size] = torch.from_numpy(np.load(file))
    return result


def one_variant(store: Path, out: Path, name: str) -> None:
    """Train and score."""
    folder = out / "runs" / name.replace(" ", "-").replace(",", "").replace("'", "")
    if not (folder / "encoder.safetensors").exists():
        train(store, folder, name)
    archive = Archive.open([store])
    seen, tasks = task_parts(archive)
    inputs = inputs_of(archive, seen, out)
    del inputs[32]
    lines = [line for line in read_metrics(folder) if "modalities" in line]
    last = {
        modality: float(np.mean([line["modalities"][modality]["loss"] - values["ln_k"] for line in lines[-3:]]))
        for modality, values in lines[-1]["modalities"].items()
    }
    write_json(
        out / "scores" / f"{folder.name}.json",
        {
            "name": name,
            "seconds": lines[-1]["seconds"],
            "loss - ln K": last,
            "sizes": score_sizes(load_encoder(folder), inputs, tasks),
        },
    )


def baselines(store: Path, out: Path) -> None:
    """Untrained networks and raw pixels, scored the same way."""
    archive = Archive.open([store])
    seen, tasks = task_parts(archive)
    inputs = inputs_of(archive, seen, out)
    raw = inputs.pop(32).flatten(1).numpy()
    entries = {"raw pixels": {"32": score(raw, tasks)}}
    for architecture in ("resnet18w0.25", "resnet18w0.5"):
        encoder = untrained_encoder(architecture, 0, Preprocessing())
        entries[f"untrained {architecture}"] = score_sizes(encoder, inputs, tasks)
    for name, sizes in entries.items():
        content = {"name": name, "seconds": 0.0, "loss - ln K": {}, "sizes": sizes}
        write_json(out / "scores" / f"0-{name.replace(' ', '-')}.json", content)


def show(out: Path) -> None:
    """A Markdown table of all scores, then one line per figure."""
    print("| variant | px | mean | " + " | ".join(LABELS) + " | mean, half | X-ray CT MR US loss - ln K | s |")
    print("|---" * (len(LABELS) + 6) + "|")
    best = {}
    for file in sorted((out / "scores").glob("*.json")):
        entry = json.loads(file.read_text())
        means = {size: np.mean([table[label]["0.1"] for label in LABELS]) for size, table in entry["sizes"].items()}
        size = max(means, key=lambda key: means[key])
        table = entry["sizes"][size]
        half = np.mean([table[label]["0.5"] for label in LABELS])
        aucs = " | ".join(f"{table[label]['0.1']:.3f}" for label in LABELS)
        losses = " ".join(f"{value:.2f}" for value in entry["loss - ln K"].values())
        print(f"| {entry['name']} | {size} | {means[size]:.3f} | {aucs} | {half:.3f} | {losses} |", end="")
        print(f" {entry['seconds']:.0f} |")
        best[entry["name"]] = means[size]
    for name, value in best.items():
        print(f"{name}, mean probe AUC at a tenth of the labels: {value:.3f}")


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
    if not list((out / "scores").glob("0-*")):
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
