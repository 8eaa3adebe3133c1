"""Do masks and pretraining help to find slices with metastases? Phantom brain MR, 20 slices of 160 x 160 px.

A ResNet is pretrained on the images without labels (or given by --encoder RUN). Then, for the pretrained and the random
network, the classifier of slices is fine-tuned with and without the mask channel, all with the same settings and seeds;
one stage 1 per seed serves both. Figures are over the test patients, the mean of the seeds' probabilities, differences
paired over patients. Stopped at any moment, it goes on when run again.
Run: python benchmarks/metastasis_phantoms.py --out FOLDER [--encoder RUN] [--patients N --steps N --seeds N]
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scoutview import evaluate, finetune, ingest, label, pretrain
from scoutview.batches import Archive
from scoutview.encoders import load_encoder, save_encoder, untrained_encoder
from scoutview.files import write_text
from scoutview.metrics import average_precision, paired_difference, patient_bootstrap, roc_auc
from scoutview.phantoms import write_phantoms
from scoutview.tasks.metastasis.cases import Masks, SliceCases
from scoutview.tasks.metastasis.classifier import SliceChannels, predict_slices
from scoutview.tasks.metastasis.inputs import SliceInputs
from scoutview.tasks.metastasis.job import STAGE1, load_slice_classifier
from scoutview.tasks.metastasis.predicted import predicted_masks
from scoutview.tasks.metastasis.segmentation import load_segmenters

SIZE, SLICES = 160, 20
INPUT_SIZE = 160
"""px of the networks' input; at 96 metastases of 4 px are lost."""
PRETRAINING: dict[str, Any] = {
    "batch_size": 48,
    "crops": (2,),
    "sizes": (128,),
    "queue_start": 200,
    "learning_rate": 1.0,
    "input_size": INPUT_SIZE,
    "workers": 0,
}
"""Changes to small_cpu: its crops of 64 px show most of an image, in which metastases are lost."""
NAME = "metastasis"
Scores = npt.NDArray[np.float64]


def take_in(out: Path, patients: int) -> Path:
    """Draw the patients, half of them for training, an eighth for validation, and make a store with their masks."""
    os.environ.setdefault("SCOUTVIEW_KEY", "phantoms need no secret")
    source, store = out / "phantoms", out / "store"
    if (out / "taken-in").exists():
        return store
    if not (source / "phantoms.json").exists():
        write_phantoms(source, patients={"mr": patients}, seed=65, size=SIZE, slices=SLICES)
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(row["patient"] for row in rows))}
    splits = ["train"] * 4 + ["validation"] + ["test"] * 3
    labels = ["file,patient,split,metastasis"]
    masks = ["file,patient,mask,name"]
    for row in rows:
        labels.append(f"{row['file']},{row['patient']},{splits[numbers[row['patient']] % 8]},{row[NAME]}")
        folder, number = Path(row["file"]).parent.name, Path(row["file"]).stem
        mask = f"masks/mr/{folder}-{number}-{NAME}.png"
        if (source / mask).exists():
            masks.append(f"{row['file']},{row['patient']},{mask},{NAME}")
    write_text(source / "split.csv", "\n".join(labels) + "\n")
    write_text(source / "masks.csv", "\n".join(masks) + "\n")
    ingest([source / "images"], out=store, labels=source / "split.csv")
    label(store, source / "masks.csv")
    write_text(out / "taken-in", "")
    return store


def scores_of(run: Path, archive: Archive) -> tuple[SliceCases, Scores]:
    """The test slices, and a model's probabilities of them."""
    model = load_slice_classifier(run)
    cases = SliceCases.of(archive, Masks.read(archive, NAME), "test")
    inputs = SliceInputs(cases, model.encoder.preprocessing, model.encoder.image_side)
    channels = SliceChannels(inputs)
    if (run / STAGE1).exists():
        channels.masks = predicted_masks(run / STAGE1, load_segmenters(run / STAGE1), (inputs,), "cpu")
    return cases, predict_slices(model, channels, "cpu")[:, 0]


def main() -> None:
    """Run what is missing, then show the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/metastasis-phantoms"))
    parser.add_argument("--encoder")
    parser.add_argument("--patients", type=int, default=192)
    parser.add_argument("--pretraining-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--mask-steps", type=int, default=600)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    begin = time.process_time()
    store, out = take_in(arguments.out, arguments.patients), arguments.out
    print(f"store after {time.process_time() - begin:.0f} core-seconds", flush=True)
    encoder = arguments.encoder
    if encoder is None:
        encoder = str(out / "pretraining")
        if not (out / "pretraining" / "encoder.safetensors").exists():
            steps = arguments.pretraining_steps
            pretrain([store], out=out / "pretraining", recipe="small_cpu", steps=steps, **PRETRAINING)
    print(f"encoder after {time.process_time() - begin:.0f} core-seconds", flush=True)
    archive = Archive.open([store])
    common: dict[str, Any] = {"label": [NAME], "steps": arguments.steps, "batch_size": 16}
    found: dict[tuple[str, bool], list[Scores]] = {}
    for seed in range(arguments.seeds):
        shared: dict[str, Any] = {"mask_steps": arguments.mask_steps, "mask_folds": arguments.folds}
        random = out / f"untrained-{seed}.safetensors"
        known = load_encoder(Path(encoder))
        save_encoder(untrained_encoder(known.architecture, known.input_size, known.preprocessing, seed), random)
        for kind, weights in (("pretrained", encoder), ("random", str(random))):
            for masked in (True, False):
                run = out / f"{kind}-{'masks' if masked else 'slices'}-{seed}"
                extra = shared if masked else {"mask_channel": False}
                finetune("metastasis_slices", store, encoder=weights, out=run, seed=seed, **common, **extra)
                if not (run / "evaluation.json").exists():
                    evaluate(run, store)
                cases, scores = scores_of(run, archive)
                found.setdefault((kind, masked), []).append(scores)
                took = time.process_time() - begin
                print(f"{run.name}: AUC {roc_auc(scores, cases.targets):.3f}, {took:.0f} core-seconds", flush=True)
            shared = {**shared, "stage1": str(out / f"pretrained-masks-{seed}")}
    print(f"core-minutes of this call: {(time.process_time() - begin) / 60:.1f} (bar: <= 60)")
    mean = {key: np.mean(values, axis=0) for key, values in found.items()}
    targets, patients = cases.targets, cases.patients
    two_stage, alone, random = (mean[key] for key in (("pretrained", True), ("pretrained", False), ("random", True)))
    auc = patient_bootstrap(roc_auc, two_stage, targets, patients=patients)
    precision = patient_bootstrap(average_precision, two_stage, targets, patients=patients)
    print(f"AP two-stage: {precision.value:.3f} [{precision.low:.3f}, {precision.high:.3f}]")
    plain = paired_difference(roc_auc, (mean["random", True], targets), (mean["random", False], targets), patients)
    print(f"random, two-stage - without mask: {plain.value:+.3f} [{plain.low:+.3f}, {plain.high:+.3f}]")
    unmasked = paired_difference(roc_auc, (alone, targets), (mean["random", False], targets), patients)
    print(f"without mask, pretrained - random: {unmasked.value:+.3f} [{unmasked.low:+.3f}, {unmasked.high:+.3f}]")
    print(f"AUC two-stage: {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}] (bar: >= 0.95)")
    for title, other in (("two-stage - without mask", alone), ("pretrained - random", random)):
        gain = paired_difference(roc_auc, (two_stage, targets), (other, targets), patients)
        print(f"{title}: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] (bar: > 0)")


if __name__ == "__main__":
    main()
