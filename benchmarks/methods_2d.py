"""Methods beside each other on four sets of real images: ours, SimCLR, plain SwAV, ours with shared prototypes, none.

Every method has the same network, the same number of encoded pixels, and the best of eight settings, which short runs
chose on training and validation images (benchmarks/ablations/search.yaml). Its encoder is fine-tuned with a tenth of
the labels, and with all, with the same two rates tried on validation. Stopped at any moment, it goes on when run again.
Run: python benchmarks/methods_2d.py --data FOLDER --out FOLDER [--steps 2000] [--fraction 0.1 --seeds 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml
from real_2d import ALL, find, interval
from real_sets import DATA, LABELS, take_in

from scoutview import pretrain, study
from scoutview.training.run_folder import read_metrics

OURS, NONE = "ours", "none"
ONE_SIZE: dict[str, Any] = {"crops": (2,), "sizes": (64,), "visible": ((0.6, 1.0),)}
METHODS: dict[str, dict[str, Any]] = {
    OURS: {"recipe": "small_cpu"},
    # 144 images in two views are as many pixels as 96 in three.
    "simclr": {
        **ONE_SIZE,
        "recipe": "small_cpu",
        "method": "simclr",
        "batch_size": 144,
        "projection": 128,
        "energy": 0.2,
        "learning_rate": 2.0,
    },
    "plain swav": {"recipe": "plain_swav"},
    "shared prototypes": {"recipe": "small_cpu", "shared_prototypes": True, "prototypes": 64, "projection": 32},
}
"""What the search chose; shared prototypes are ours but for that."""
RATES = [5e-4, 2e-3]
"""Of the encoder in fine-tuning; the better one on validation counts, for each encoder and fraction."""


def one_pretraining(store: Path, out: Path, name: str, steps: int) -> None:
    """A method's encoder, in this process on one thread."""
    torch.set_num_threads(1)
    values = dict(METHODS[name])
    recipe = values.pop("recipe")
    pretrain([store], out=out / "pretraining" / name, recipe=recipe, steps=steps, workers=0, **values)


def study_file(out: Path, store: Path, fraction: float, seeds: int, rates: list[float]) -> Path:
    """The study of one fraction as a user would write it."""
    content = {
        "stores": [str(store.absolute())],
        "tasks": list(LABELS),
        "encoders": {name: f"pretraining/{name}" for name in METHODS},
        "fractions": [fraction],
        "seeds": seeds,
        "finetune": {"head_learning_rate": 2e-3},
        "search": {"learning_rate": rates},
    }
    file = out / f"study-{fraction:g}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def show(content: dict[str, Any], fraction: float) -> None:
    """Areas of every method and differences to ours, then one line per figure."""
    names = (NONE, *METHODS)
    print(f"\n{fraction:.0%} of the labels, {content['plan']['seeds']} seeds; fine-tuned")
    print(f"\n| task | {' | '.join(names)} |\n{'|---' * (len(names) + 1)}|")
    keys: dict[str, Any] = {"fraction": fraction, "measure": "fine-tuned"}
    for task in LABELS:
        cells = [interval(find(content["areas"], task=task, encoder=name, **keys)["auc"]) for name in names]
        print(f"| {task} | {' | '.join(cells)} |")
    others = [name for name in names if name != OURS]
    print(f"\n| ours minus | {' | '.join(others)} |\n{'|---' * (len(others) + 1)}|")
    gains: dict[str, dict[str, float]] = {}
    for task in (*LABELS, ALL):
        cells = []
        for name in others:
            entry = find(content["differences"], task=task, encoder=OURS, reference=name, **keys)["difference"]
            cells.append(interval(entry, "+"))
            gains[name] = entry  # that of the mean, which comes last
        print(f"| {task} | {' | '.join(cells)} |")
    rates = {entry["encoder"]: entry["choice"] for entry in content["choices"] if entry["chosen"]}
    print("\nChosen on validation: " + ", ".join(f"{name} {rate}" for name, rate in rates.items()) + ".\n")
    methods = [name for name in others if name not in (NONE, "shared prototypes")]
    nearest = min(methods, key=lambda name: gains[name]["value"])
    bar = ">= +0.02" if fraction < 1 else "not below 0"
    print(f"ours - best other ({nearest}) at {fraction:.0%}: {gains[nearest]['value']:+.3f} (bar: {bar})")
    print(f"ours - best other at {fraction:.0%}, lower bound: {gains[nearest]['low']:+.3f} (bar: none)")
    print(f"ours - none at {fraction:.0%}: {gains[NONE]['value']:+.3f} (bar: none)")
    shared = gains["shared prototypes"]["value"]
    print(f"prototypes per modality - shared ones at {fraction:.0%}: {shared:+.3f} (bar: none)")


def show_courses(out: Path) -> None:
    """Loss minus ln K and prototypes in use, with prototypes per modality and with shared ones."""
    names = (OURS, "shared prototypes")
    lines = {
        name: {line["step"]: line for line in read_metrics(out / "pretraining" / name) if "modalities" in line}
        for name in names
    }
    last = max(lines[OURS])
    print("\nLoss minus ln K (share of prototypes in use), per modality\n")
    print(f"| step | prototypes | {' | '.join(lines[OURS][last]['modalities'])} |\n|---|---|---|---|---|---|")
    for step in [step for step in (100, 200, 500, 1000, 2000, 4500) if step <= last]:
        for name, kind in zip(names, ("per modality", "shared"), strict=True):
            parts = lines[name][step]["modalities"].values()
            cells = [f"{part['loss'] - part['ln_k']:+.2f} ({part['prototypes_used']:.0%})" for part in parts]
            print(f"| {step} | {kind} | {' | '.join(cells)} |")


def main() -> None:
    """Take in, pretrain side by side, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/methods-2d"))
    parser.add_argument("--store", type=Path, help="a store that real_sets.py has made, instead of making one")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument(
        "--at-once", type=int, default=os.cpu_count() or 1, help="trainings side by side, a thread each"
    )
    parser.add_argument("--one", choices=METHODS, help="pretrain this method and stop")
    arguments = parser.parse_args()
    out, store = arguments.out, arguments.store or arguments.out / "store"
    if not (store / "store.json").exists():
        take_in(arguments.data, out)
    if arguments.one:
        one_pretraining(store, out, arguments.one, arguments.steps)
        return
    command = [sys.executable, __file__, "--out", str(out), "--store", str(store), "--steps", str(arguments.steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(lambda name: subprocess.run([*command, "--one", name], env=environment, check=True), METHODS))
    file = study_file(out, store, arguments.fraction, arguments.seeds, arguments.rates)
    content = study(file, out=out / f"study-{arguments.fraction:g}", at_once=arguments.at_once)
    show_courses(out)
    show(content, arguments.fraction)


if __name__ == "__main__":
    main()
