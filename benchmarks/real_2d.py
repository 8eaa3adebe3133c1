"""The claim: pretraining on your own unlabelled images makes your model better, on four sets of real images.

Ingests the sets, pretrains on their training and validation images without labels, fine-tunes from that encoder and
from random weights with all and with a tenth of the labels, five times each, and compares on the test images; linear
and nearest-neighbour probes of the frozen features stand beside it. Stopped at any moment, it goes on when run again.
Run: python benchmarks/real_2d.py --data FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import yaml
from real_sets import DATA, LABELS, take_in

from scoutview import pretrain, study

# Chosen on validation images only: docs/results/recipe.md.
FINETUNE = {"learning_rate": 2e-3, "head_learning_rate": 2e-3}
FRACTIONS = (1.0, 0.1)
ALL = "mean over tasks"


def study_file(out: Path, seeds: int) -> Path:
    """The study as a user would write it."""
    content = {
        "stores": ["store"],
        "tasks": list(LABELS),
        "encoders": {"ours": "pretraining"},
        "fractions": list(FRACTIONS),
        "seeds": seeds,
        "finetune": FINETUNE,
    }
    file = out / "study.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def find(entries: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    """The entry with these values."""
    return next(entry for entry in entries if all(entry[key] == value for key, value in keys.items()))


def interval(figure: dict[str, float], sign: str = "") -> str:
    """value [low, high]."""
    return f"{figure['value']:{sign}.3f} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"


def tables(content: dict[str, Any]) -> None:
    """Markdown: areas, differences, steps saved."""
    measures = ("fine-tuned", "linear", "neighbours")
    print("| task | labels | encoder | fine-tuned | linear probe | nearest neighbours |\n|---|---|---|---|---|---|")
    for label in LABELS:
        for fraction in FRACTIONS:
            for encoder in ("none", "ours", "raw pixels"):
                keys = {"task": label, "fraction": fraction, "encoder": encoder}
                cells = [
                    interval(find(content["areas"], measure=measure, **keys)["auc"])
                    if (encoder, measure) != ("raw pixels", "fine-tuned")
                    else ""
                    for measure in measures
                ]
                print(f"| {label} | {fraction:.0%} | {encoder} | {' | '.join(cells)} |")
    print("\n| task | labels | fine-tuned - none | linear - none | linear - raw pixels |\n|---|---|---|---|---|")
    for fraction in FRACTIONS:
        for label in (*LABELS, ALL):
            keys = {"task": label, "fraction": fraction}
            pairs = (("fine-tuned", "none"), ("linear", "none"), ("linear", "raw pixels"))
            cells = [
                interval(find(content["differences"], measure=a, reference=b, **keys)["difference"], "+")
                for a, b in pairs
            ]
            print(f"| {label} | {fraction:.0%} | {' | '.join(cells)} |")
    print("\n| task | labels | steps saved (sd over seeds) | in all | never got there |\n|---|---|---|---|---|")
    for entry in content["convergence"]:
        saved = f"{entry['saved']:+.0%} ({entry['deviation']:.0%})"
        print(
            f"| {entry['task']} | {entry['fraction']:.0%} | {saved} | {entry['in_all']:+.0%} | {entry['not_reached']} |"
        )
    print()


def show(content: dict[str, Any], pretraining_seconds: float) -> None:
    """One line per figure of the claim."""
    differences = content["differences"]
    gain = find(differences, task=ALL, fraction=0.1, measure="fine-tuned")["difference"]
    print(f"gain of mean AUC at 10% of labels: {gain['value']:+.3f} (bar: >= +0.05)")
    print(f"gain of mean AUC at 10% of labels, lower bound: {gain['low']:+.3f} (bar: > 0)")
    whole = find(differences, task=ALL, fraction=1.0, measure="fine-tuned")["difference"]
    print(f"gain of mean AUC at 100% of labels: {whole['value']:+.3f} (bar: none)")
    print(f"gain of mean AUC at 100% of labels, lower bound: {whole['low']:+.3f} (bar: > -0.02)")
    below = [
        label
        for label in LABELS
        if find(differences, task=label, fraction=1.0, measure="fine-tuned")["difference"]["high"] < 0
    ]
    print(f"tasks whose interval at 100% lies below 0: {len(below)} (bar: <= 0)")
    for fraction in FRACTIONS:
        entry = find(content["convergence"], task=ALL, fraction=fraction)
        print(f"steps saved at {fraction:.0%} of labels, mean of shares: {entry['saved']:+.2f} (bar: >= 0.50)")
        print(f"steps saved at {fraction:.0%} of labels, in all: {entry['in_all']:+.2f} (bar: >= 0.50)")
    for reference, bar in (("none", ">= +0.08"), ("raw pixels", "> 0")):
        entry = find(differences, task=ALL, fraction=0.1, measure="linear", reference=reference)["difference"]
        print(f"linear probe at 10% of labels above {reference}: {entry['value']:+.3f} (bar: {bar})")
    print(f"seconds of pretraining: {pretraining_seconds:.0f} (bar: <= 7200)")
    print(f"seconds of the study's cells, added up: {content['seconds']:.0f} (bar: about 3600 a core)")


def main() -> None:
    """Take in, pretrain, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/real-2d"))
    parser.add_argument("--recipe", default="small_cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="cells side by side, a thread each")
    arguments = parser.parse_args()
    out = arguments.out
    if not (out / "store" / "store.json").exists():
        take_in(arguments.data, out)
    run = pretrain([out / "store"], out=out / "pretraining", recipe=arguments.recipe)
    content = study(study_file(out, arguments.seeds), out=out / "study", at_once=arguments.at_once)
    tables(content)
    show(content, json.loads((run / "manifest.json").read_text())["seconds"])


if __name__ == "__main__":
    main()
