"""Labels inside pretraining (Eq. 5 to 7): hybrid against self-supervised, fine-tuned on the same tenth of the labels.

For each seed a tenth of the training patients of four real sets is labelled. One encoder is pretrained without labels,
and for each seed one with those of the tenth, as findings that are unknown for everybody else. Both are fine-tuned on
that tenth, with the same search of the rate on validation. Stopped at any moment, it goes on when run again.
Run: python benchmarks/hybrid_2d.py --data FOLDER --out FOLDER [--seeds 3] [--steps 2000] [--at-once 2]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from real_sets import DATA, LABELS, take_in

from scoutview import pretrain
from scoutview.batches import Archive
from scoutview.files import write_json
from scoutview.store import Annotation, Store, add_annotations
from scoutview.study import Study, StudyPlan, summarise
from scoutview.study.cells import run_cell
from scoutview.study.plan import Cell
from scoutview.study.task_plan import TaskPlan

FRACTION = 0.1
ALONE, HYBRID = "self-supervised", "hybrid"
SEARCH: dict[str, tuple[float, ...]] = {"learning_rate": (5e-4, 2e-3)}


def plan_of(out: Path, store: Path, alone: Path, seeds: int, seed: int = 0) -> StudyPlan:
    """The study as it is for one seed, whose hybrid encoder is its own."""
    return StudyPlan(
        stores=(str(store),),
        tasks={label: TaskPlan((label,)) for label in LABELS},
        encoders={ALONE: str(alone), HYBRID: str(out / "pretraining" / f"{HYBRID}-{seed}")},
        fractions=(FRACTION,),
        seeds=seeds,
        finetune={"head_learning_rate": 2e-3},
        search=SEARCH,
        compare=((HYBRID, ALONE),),
    )


def finding(seed: int, label: str, name: str) -> str:
    """The name of a class of a label, known for the tenth of a seed."""
    return f"tenth{seed}_{label}_{name}"


def label_tenths(out: Path, store: Path, seeds: int) -> list[list[str]]:
    """Annotate the tenth of every seed, once for all; the names of its findings per seed."""
    file = out / "findings.json"
    if file.exists():
        known: list[list[str]] = json.loads(file.read_text())
        return known
    pretrain([store], out=out / "shape", recipe="small_cpu", steps=1, probe_every=0, workers=0)
    plan = plan_of(out, store, out / "shape", seeds)
    # The study draws the tenth as the fine-tunings will; it needs an encoder of the shape, not a trained one.
    study = Study(StudyPlan(**{**vars(plan), "encoders": {ALONE: str(out / "shape")}, "compare": "all"}), out)
    archive = Archive.open([store])
    annotations, names = [], []
    for seed in range(seeds):
        of_seed = []
        for label in LABELS:
            places = study.labelled(Cell(label, ALONE, FRACTION, seed))
            targets = study.tasks[label].probed["train"].part(places.tolist())
            for column, name in enumerate(targets.classes):
                of_seed.append(finding(seed, label, name))
                for index, values in zip(targets.indices, targets.values, strict=True):
                    image = archive.rows[index].image
                    annotations.append(Annotation(image, "label", of_seed[-1], str(int(values[column]))))
        names.append(of_seed)
    add_annotations(Store.open(store), annotations)
    write_json(file, names)
    return names


def one_pretraining(out: Path, store: Path, name: str, steps: int) -> None:
    """An encoder, in this process on one thread."""
    torch.set_num_threads(1)
    values: dict[str, Any] = {"steps": steps, "workers": 0, "probe_every": 0}
    if name != ALONE:
        values["label"] = tuple(json.loads((out / "findings.json").read_text())[int(name.rpartition("-")[2])])
    pretrain([store], out=out / "pretraining" / name, recipe="small_cpu", **values)


def run_cells(out: Path, store: Path, alone: Path, seeds: int, seed: int, cells: Sequence[Cell]) -> None:
    """Some cells of one seed, in a process of one thread."""
    torch.set_num_threads(1)
    study = Study(plan_of(out, store, alone, seeds, seed), out)
    for cell in cells:
        run_cell(study, cell)


def show(content: dict[str, Any]) -> None:
    """A table per task, then one line per figure."""
    print("| task | self-supervised | hybrid | hybrid - self-supervised | hybrid - random |\n|---|---|---|---|---|")
    wanted = [entry for entry in content["differences"] if entry["measure"] == "fine-tuned"]
    areas = {
        (entry["task"], entry["encoder"]): entry["auc"]["value"]
        for entry in content["areas"]
        if entry["measure"] == "fine-tuned"
    }
    named = {(entry["task"], entry["encoder"], entry["reference"]): entry["difference"] for entry in wanted}
    for task in (*LABELS, "mean over tasks"):
        pair, none = named[task, HYBRID, ALONE], named[task, HYBRID, "none"]
        own = [f"{areas[task, name]:.3f}" if (task, name) in areas else "" for name in (ALONE, HYBRID)]
        cells = [f"{each['value']:+.3f} [{each['low']:+.3f}, {each['high']:+.3f}]" for each in (pair, none)]
        print(f"| {task} | {' | '.join([*own, *cells])} |")
    gain = named["mean over tasks", HYBRID, ALONE]
    print(f"\nhybrid - self-supervised, mean AUC of four tasks at a tenth: {gain['value']:+.3f} (bar: >= +0.01)")
    print(f"lower bound: {gain['low']:+.3f} (bar: none)")
    print(f"upper bound: {gain['high']:+.3f} (bar: none)")


def main() -> None:
    """Label, pretrain, fine-tune, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/hybrid-2d"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="trainings side by side")
    parser.add_argument(
        "--alone", type=Path, help="the self-supervised run of as many steps, if methods_2d.py has made it"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out, store = arguments.out, arguments.out / "store"
    if arguments.one:
        one_pretraining(out, store, arguments.one, arguments.steps)
        return
    if not (store / "store.json").exists():
        take_in(arguments.data, out)
    label_tenths(out, store, arguments.seeds)
    command = [sys.executable, __file__, "--out", str(out), "--steps", str(arguments.steps), "--one"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone = arguments.alone or out / "pretraining" / ALONE
    names = [*([] if arguments.alone else [ALONE]), *(f"{HYBRID}-{seed}" for seed in range(arguments.seeds))]
    with ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(lambda name: subprocess.run([*command, name], env=environment, check=True), names))
    plan = plan_of(out, store, alone, arguments.seeds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.at_once, mp_context=context) as processes:
        parts = [
            ([cell for cell in plan.cells() if cell.seed == seed and cell.task == task], seed)
            for seed in range(arguments.seeds)
            for task in plan.tasks
        ]
        futures = [
            processes.submit(run_cells, out, store, alone, arguments.seeds, seed, cells) for cells, seed in parts
        ]
        for future in futures:
            future.result()
    content = summarise(Study(plan, out))
    write_json(out / "study.json", content)
    show(content)


if __name__ == "__main__":
    main()
