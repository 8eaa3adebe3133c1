"""The paper's Table II and Figures 5 and 10 on public radiographs: four label fractions, four encoders, five seeds.

744 chest radiographs (NIH), two tasks: normal or abnormal, and four findings. The encoders are those of methods_2d.py,
pretrained without labels on four modalities; the images are 128 px. Steps until 98% of the reference's best, and how
much the outputs move under gamma, rotation and scale, are measured, too. Stopped, it goes on when run again.
Run: python benchmarks/xray_study.py --methods FOLDER_OF_METHODS_2D --out FOLDER [--data FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import os
import tarfile
from pathlib import Path
from typing import Any

import yaml
from real_2d import ALL, find, interval
from real_sets import DATA, split_groups

from scoutview import ingest, study

ENCODERS = ("ours", "simclr", "plain swav")
FRACTIONS = (1.0, 0.5, 0.25, 0.1)
FINDINGS = {name.lower(): name for name in ("Infiltration", "Atelectasis", "Edema", "Effusion")}
TASKS = {"abnormal": ["abnormal"], "findings": list(FINDINGS)}
SIZE = 128
RATE = 1e-3
"""Between the two that the study of methods tries: a search at every fraction would double the time."""


def take_in(data: Path, out: Path) -> None:
    """The radiographs as a store of their own, with the splits of the other benchmarks."""
    os.environ.setdefault("SCOUTVIEW_KEY", "public images need no secret")
    source = out / "source"
    with tarfile.open(data / "cxr_nih_dev.tar") as archive:
        archive.extractall(source, filter="data")
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    splits = split_groups([row["patient_id"] for row in rows], [row["abnormal"] for row in rows])
    labels = out / "labels.csv"
    with labels.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["file", "patient", "split", "abnormal", *FINDINGS])
        for row in rows:
            found = row["finding_labels"].split("|")
            flags = [int(name in found) for name in FINDINGS.values()]
            writer.writerow([row["file"], row["patient_id"], splits[row["patient_id"]], row["abnormal"], *flags])
    ingest([source / "images"], out=out / "store", labels=labels, modality="xray")


def study_file(out: Path, methods: Path, seeds: int) -> Path:
    """The study as a user would write it."""
    content = {
        "stores": ["store"],
        "tasks": TASKS,
        "encoders": {name: str((methods / "pretraining" / name).absolute()) for name in ENCODERS},
        "fractions": list(FRACTIONS),
        "seeds": seeds,
        "input_size": SIZE,
        "finetune": {"learning_rate": RATE, "head_learning_rate": 2e-3},
        "robustness": {"cases": 50, "transforms": 50},
    }
    file = out / "study.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def show(content: dict[str, Any]) -> None:
    """Table II, convergence, robustness, then one line per figure."""
    names = ("none", *ENCODERS)
    print(f"| task | labels | {' | '.join(names)} |\n{'|---' * (len(names) + 2)}|")
    for task in TASKS:
        for fraction in FRACTIONS:
            keys = {"task": task, "fraction": fraction, "measure": "fine-tuned"}
            cells = [interval(find(content["areas"], encoder=name, **keys)["auc"]) for name in names]
            print(f"| {task} | {fraction:.0%} | {' | '.join(cells)} |")
    print(f"\n| ours minus | labels | {' | '.join(name for name in names if name != 'ours')} |\n|---|---|---|---|---|")
    for fraction in FRACTIONS:
        keys = {"task": ALL, "fraction": fraction, "measure": "fine-tuned", "encoder": "ours"}
        cells = [
            interval(find(content["differences"], reference=name, **keys)["difference"], "+")
            for name in names
            if name != "ours"
        ]
        print(f"| mean of tasks | {fraction:.0%} | {' | '.join(cells)} |")
    print("\n| encoder | labels | steps saved to 98% of the reference's best (sd) | in all | never got there |")
    print("|---|---|---|---|---|")
    for fraction in FRACTIONS:
        for name in ENCODERS:
            entry = find(content["convergence"], task=ALL, fraction=fraction, encoder=name)
            saved = (
                f"{entry['saved']:+.0%} ({entry['deviation']:.0%}) | {entry['in_all']:+.0%} | {entry['not_reached']}"
            )
            print(f"| {name} | {fraction:.0%} | {saved} |")
    print(
        "\n| task | encoder | median change | AUC under transform | median change of the logit |\n|---|---|---|---|---|"
    )
    for entry in content["robustness"]:
        figures = (interval(entry[key]) for key in ("median_change", "auc_transformed", "median_logit_change"))
        print(f"| {entry['task']} | {entry['encoder']} | {' | '.join(figures)} |")
    print()
    for fraction in FRACTIONS:
        keys = {"task": ALL, "fraction": fraction, "measure": "fine-tuned", "encoder": "ours"}
        gain = find(content["differences"], reference="none", **keys)["difference"]
        print(f"radiographs, ours - none at {fraction:.0%} of labels: {interval(gain, '+')} (bar: none)")
        entry = find(content["convergence"], task=ALL, fraction=fraction, encoder="ours")
        print(f"steps saved at {fraction:.0%} of labels, mean of tasks: {entry['saved']:+.2f} (bar: >= 0.50)")
    for task in TASKS:
        ours, none = (find(content["robustness"], task=task, encoder=name) for name in ("ours", "none"))
        moved = [entry["median_change"]["value"] for entry in (ours, none)]
        areas = [entry["auc_transformed"]["value"] for entry in (ours, none)]
        print(f"{task}, median |d|, ours / none: {moved[0] / moved[1]:.2f} (bar: < 1)")
        print(f"{task}, AUC under transform, ours - none: {areas[0] - areas[1]:+.3f} (bar: > 0)")
    print(f"seconds of the study's cells, added up: {content['seconds']:.0f} (bar: <= 21600)")


def main() -> None:
    """Take in, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--methods", type=Path, default=Path("runs/methods-2d"))
    parser.add_argument("--out", type=Path, default=Path("runs/xray-study"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="cells side by side, a thread each")
    arguments = parser.parse_args()
    if not (arguments.out / "store" / "store.json").exists():
        take_in(arguments.data, arguments.out)
    file = study_file(arguments.out, arguments.methods, arguments.seeds)
    show(study(file, out=arguments.out / "study", at_once=arguments.at_once))


if __name__ == "__main__":
    main()
