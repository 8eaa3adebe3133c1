"""What each part of a pretraining is worth on small real archives: short runs that differ in one setting.

Each YAML file in benchmarks/ablations names a recipe, changes for all its runs (`base`), its `variants`, and `seeds` of
pretraining. Every run is scored on the training and validation splits alone (the test split is neither pretrained on
nor scored): a logistic regression on frozen features learns from the labels of a tenth of the patients and is asked
about all the others, in ten draws, on four tasks. Runs that are there are not repeated, and files that name the same
settings share the run.
Run: python benchmarks/ablations.py [FILE.yaml ...] --data FOLDER --out FOLDER [--at-once 2]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from real_sets import DATA, LABELS, take_in
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from scoutview import pretrain
from scoutview.batches import Archive
from scoutview.encoders import Encoder, load_encoder, untrained_encoder
from scoutview.files import write_json
from scoutview.metrics import macro_auc
from scoutview.preprocessing import Preprocessing
from scoutview.study.fractions import labelled_part
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training.run_folder import read_metrics

FOLDER = Path(__file__).parent / "ablations"
SEEN = ("train", "validation")
FRACTION, DRAWS, STRENGTHS = 0.1, 10, (1e-3, 1e-2, 1e-1)
SIZE, RAW_SIZE = 96, 32


@dataclass(frozen=True)
class Ablation:
    """One file: what is asked, and the runs that answer it."""

    name: str
    question: str
    recipe: str
    base: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    seeds: int = 1

    @classmethod
    def read(cls, file: Path) -> Ablation:
        """The content of a file; the name is that of the file."""
        return cls(file.stem, **yaml.safe_load(file.read_text(encoding="utf-8")))

    def runs(self) -> list[tuple[str, int]]:
        """(variant, seed), seeds outermost."""
        return [(variant, seed) for seed in range(self.seeds) for variant in self.variants]

    def settings(self, variant: str, seed: int) -> dict[str, Any]:
        """All that the run changes, and `recipe`."""
        common = {"recipe": self.recipe, "seed": seed, "workers": 0, "probe_every": 0}
        return {**common, **self.base, **self.variants[variant]}

    def folder(self, out: Path, variant: str, seed: int) -> Path:
        """The run folder of a variant, named by its settings."""
        text = json.dumps(self.settings(variant, seed), sort_keys=True)
        return out / "runs" / hashlib.sha256(text.encode()).hexdigest()[:12]


def one_run(ablation: Ablation, store: Path, out: Path, variant: str, seed: int) -> None:
    """Pretrain, in this process on one thread, and score."""
    torch.set_num_threads(1)
    folder = ablation.folder(out, variant, seed)
    settings = ablation.settings(variant, seed)
    pretrain([store], out=folder, recipe=settings.pop("recipe"), **settings)
    lines = [line for line in read_metrics(folder) if "modalities" in line]
    losses = {
        modality: float(np.mean([_loss(line["modalities"][modality]) for line in lines[-3:]]))
        for modality in lines[-1]["modalities"]
    }
    archive = Archive.open([store])
    seen, tasks = task_parts(archive)
    aucs = score(features_of(load_encoder(folder), inputs_of(archive, seen, out, SIZE)), tasks)
    write_json(folder / "score.json", {"seconds": lines[-1]["seconds"], "loss": losses, "aucs": aucs})


def _loss(values: dict[str, float]) -> float:
    """Minus ln K where there are prototypes."""
    return values["loss"] - values.get("ln_k", 0.0)


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
    """Network inputs of all images [image, 1, row, column]; kept on disk, since every run needs them."""
    file = out / f"inputs-{size}.npy"
    if not file.exists():
        np.save(file, NetworkInputs(archive, Preprocessing(), size).batch(seen).numpy())
    return torch.from_numpy(np.load(file))


def baselines(store: Path, out: Path) -> None:
    """An untrained network and raw pixels, scored the same way; the network inputs are written on the way."""
    archive = Archive.open([store])
    seen, tasks = task_parts(archive)
    raw = inputs_of(archive, seen, out, RAW_SIZE).flatten(1).numpy()
    untrained = untrained_encoder("resnet18w0.25", SIZE, Preprocessing())
    features = features_of(untrained, inputs_of(archive, seen, out, SIZE))
    write_json(out / "baselines.json", {"raw pixels": score(raw, tasks), "untrained": score(features, tasks)})


def show(ablations: list[Ablation], out: Path) -> None:
    """A Markdown table of each file, then one line per figure. Over several seeds: mean (lowest to highest)."""
    head = "| variant | mean | " + " | ".join(LABELS) + " | last loss, minus ln K where there are prototypes | s |"
    figures = []
    for name, aucs in json.loads((out / "baselines.json").read_text()).items():
        figures.append((name, float(np.mean(list(aucs.values())))))
    for ablation in ablations:
        print(f"\n## {ablation.name}: {ablation.question}\n\n{head}\n" + "|---" * (len(LABELS) + 4) + "|")
        for variant in ablation.variants:
            files = [ablation.folder(out, variant, seed) / "score.json" for seed in range(ablation.seeds)]
            entries = [json.loads(file.read_text()) for file in files if file.exists()]
            if not entries:
                continue
            means = [float(np.mean(list(entry["aucs"].values()))) for entry in entries]
            spread = f" ({min(means):.3f} to {max(means):.3f})" if len(means) > 1 else ""
            aucs = " | ".join(f"{np.mean([entry['aucs'][label] for entry in entries]):.3f}" for label in LABELS)
            parts = entries[0]["loss"]
            losses = ", ".join(f"{part} {np.mean([entry['loss'][part] for entry in entries]):.2f}" for part in parts)
            seconds = np.mean([entry["seconds"] for entry in entries])
            print(f"| {variant} | {np.mean(means):.3f}{spread} | {aucs} | {losses} | {seconds:.0f} |")
            figures.append((f"{ablation.name}, {variant}", float(np.mean(means))))
    print()
    for name, value in figures:
        print(f"{name}, mean probe AUC at a tenth of the labels: {value:.3f} (bar: none)")


def main() -> None:
    """Run what is missing, then show everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="*", default=sorted(FOLDER.glob("*.yaml")))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--store", type=Path, help="a store that real_sets.py has made, instead of making one")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, a thread each")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out, store = arguments.out, arguments.store or arguments.out / "store"
    ablations = [Ablation.read(file) for file in arguments.files]
    if arguments.one:
        one_run(ablations[0], store, out, arguments.one[0], int(arguments.one[1]))
        return
    if not store.exists():
        take_in(arguments.data, out)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "baselines.json").exists():
        baselines(store, out)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = set()
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for file, ablation in zip(arguments.files, ablations, strict=True):
            command = [sys.executable, __file__, str(file), "--out", str(out), "--store", str(store), "--one"]
            for variant, seed in ablation.runs():
                folder = ablation.folder(out, variant, seed)
                if folder not in started and not (folder / "score.json").exists():
                    pool.submit(subprocess.run, [*command, variant, str(seed)], env=environment, check=True)
                    started.add(folder)
    show(ablations, out)


if __name__ == "__main__":
    main()
