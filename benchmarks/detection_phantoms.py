"""Does the detector find what is there? Lesions and pneumothoraces in 600 phantom radiographs, from no encoder.

Draws, ingests, fine-tunes and evaluates; each part that is there is not repeated.
Run: python benchmarks/detection_phantoms.py --out FOLDER [--radiographs 600] [--steps 1200]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from scoutview import evaluate, finetune, ingest, label
from scoutview.phantoms import write_phantoms

SIZE = 256
"""px of the radiographs and of the network's input."""
SETTINGS: dict[str, Any] = {"input_size": SIZE, "width": 64, "depth": 2, "batch_size": 16}


def take_in(out: Path, radiographs: int) -> Path:
    """Draw the radiographs and make a store of them, with their boxes."""
    os.environ.setdefault("SCOUTVIEW_KEY", "phantoms need no secret")
    source, store = out / "phantoms", out / "store"
    if not (source / "phantoms.json").exists():
        write_phantoms(source, patients={"xray": radiographs}, seed=17, size=SIZE)
    ingest([source / "images"], out=store, labels=source / "labels.csv")
    label(store, source / "boxes.json")
    return store


def main() -> None:
    """Run what is missing, then show the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/detection-phantoms"))
    parser.add_argument("--radiographs", type=int, default=600)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    begin = time.process_time()
    print(f"plan: {arguments.radiographs} radiographs, {arguments.steps} steps, {SETTINGS}")
    store = take_in(arguments.out, arguments.radiographs)
    print(f"store after {time.process_time() - begin:.0f} core-seconds")
    run = finetune(
        "chest_detection", store, encoder="none", out=arguments.out / "run", steps=arguments.steps, **SETTINGS
    )
    if not (run / "evaluation.json").exists():
        evaluate(run, store)
    content = json.loads((run / "evaluation.json").read_text())
    print(f"core-minutes of this call: {(time.process_time() - begin) / 60:.1f} (bar: <= 40)")
    for name, entry in content["per_class"].items():
        froc = {rule: figure["score"]["value"] for rule, figure in entry["froc"].items()}
        print(f"{name}: AUC {entry['auc']['value']:.3f}, mean fROC sensitivity {froc}")
    for name, title, bar in (("auc", "AUC", 0.95), ("froc_iou_0.1", "mean fROC sensitivity (IoU 0.1)", 0.8)):
        figure = content["metrics"][name]
        print(f"{title}: {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] (bar: >= {bar})")


if __name__ == "__main__":
    main()
