"""`scoutview demo`: the whole chain on phantoms that it draws itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

from scoutview.commands.evaluate import evaluate
from scoutview.commands.finetune import finetune
from scoutview.commands.fsck import fsck
from scoutview.commands.ingest import ingest
from scoutview.commands.inspect import inspect
from scoutview.commands.pretrain import pretrain
from scoutview.commands.probe import probe
from scoutview.phantoms import GENERATOR_VERSION, write_phantoms
from scoutview.report import write_report

PATIENTS = {"xray": 240, "ct": 80, "mr": 80, "us": 240}
SLICES = 3
SIZE = 192
"""px; smaller than phantoms usually are, so that drawing and reading leave the time to training."""
PROBES = ["pneumothorax", "hemorrhage", "metastasis", "cyst"]
TASK = "cyst"
KEY = "phantoms need no secret"


def demo(*, out: Path = Path("demo"), seed: int = 0) -> Path:
    """Draw phantoms as DICOM, take them in, pretrain, probe, fine-tune, evaluate, report: minutes on two cores.

    Args:
        out: Folder for everything; running again continues.
        seed: Seed of the phantoms and of the training.

    Returns:
        The report.
    """
    began = time.monotonic()
    # Phantoms have no privacy to protect, and a fixed secret makes every demo the same.
    os.environ.setdefault("SCOUTVIEW_KEY", KEY)
    archive, store = out / "phantoms", out / "store"
    print(f"1/6 drawing phantoms (generator version {GENERATOR_VERSION})", flush=True)
    if not (archive / "phantoms.json").exists():
        write_phantoms(archive, patients=PATIENTS, seed=seed, size=SIZE, slices=SLICES)
    print("2/6 taking them in", flush=True)
    ingest([archive / "images"], out=store, labels=archive / "labels.csv")
    fsck(store)
    inspect(store)
    print("3/6 pretraining on all images but the test split, without labels", flush=True)
    run = pretrain([store], out=out / "pretraining", recipe="demo", seed=seed)
    print("4/6 probing the encoder", flush=True)
    probe(str(run), store, label=PROBES)
    print(f"5/6 fine-tuning for {TASK}, from the encoder and from random weights", flush=True)
    runs = [run]
    for name, encoder in ((f"{TASK}-pretrained", str(run)), (f"{TASK}-from-scratch", "none")):
        runs.append(
            finetune("classification", store, encoder=encoder, out=out / name, label=[TASK], steps=60, seed=seed)
        )
        evaluate(runs[-1], store)
    print("6/6 writing the report", flush=True)
    report = write_report(runs, out / "report.html", "scoutview demo")
    print(f"done in {time.monotonic() - began:.0f} s")
    print(report)
    return report
