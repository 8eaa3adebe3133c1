"""Run folders as the commands leave them, with invented figures and a hostile label."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scoutview.metrics import evaluate_scores
from scoutview.report import view_sheet

HOSTILE = "<script>alert(1)</script>"
ATTRIBUTE = '" onload="alert(1) $5 $6'


def estimate(value: float, half: float = 0.07) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": min(1.0, value + half * 0.9)}


def manifest(command: str, **more: Any) -> dict[str, Any]:
    return {
        "command": command,
        "scoutview": "0.1.0",
        "python": "3.11.9",
        "torch": "2.13.0",
        "host": {"cores": 2, "device": "cpu"},
        "stores": [
            {
                "path": "/data/private/archive",
                "snapshot": "3fa1",
                "images": {"xray": 744, "ct": 1512, "mr": 600, "us": 400},
            }
        ],
        "started": "2026-03-01T10:00:00Z",
        "seconds": 812.3,
        "status": "finished",
        **more,
    }


def pretraining_lines(steps: int = 400) -> list[dict[str, Any]]:
    generator = np.random.default_rng(3)
    lines: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        progress = step / 400
        modalities = {}
        for index, name in enumerate(("xray", "ct", "mr", "us")):
            fall = 0.0 if name == "us" else (0.9 - 0.2 * index) / (1 + math.exp(-8 * (progress - 0.5)))
            modalities[name] = {
                "loss": 3.4657 - fall + 0.02 * generator.normal() * (name != "us"),
                "ln_k": 3.4657,
                "code_entropy": 3.0 - 0.8 * progress + 0.05 * generator.normal(),
                "prototypes_used": min(1.0, 0.2 + 0.6 * progress + 0.03 * generator.normal()),
                "feature_std": 0.02 + 0.05 * progress + 0.002 * generator.normal(),
                "passes": step / 300,
            }
        lines.append(
            {
                "step": step,
                "seconds": 2.03 * step,
                "loss": 3.3,
                "learning_rate": 1.2 * min(step / 100, 0.5 + 0.5 * math.cos(math.pi * progress)),
                "gradient_norm": 1.2,
                "images_per_second": 210 + 6 * generator.normal(),
                "time": {
                    "data": 0.03,
                    "views": 0.1,
                    "encoder": 0.8,
                    "method": 0.05,
                    "communication": 0.0,
                    "rest": 0.02,
                },
                "slowest": "encoder",
                "skipped": 0,
                "modalities": modalities,
            }
        )
        if step % 100 == 0:
            probe = {
                "lesion": {"modality": "xray", "auc": 0.55 + 0.25 * progress, "images": 120},
                HOSTILE: {"modality": "ct", "auc": 0.5 + 0.1 * progress, "images": 80},
                ATTRIBUTE: {"modality": "ct", "auc": 0.6, "images": 80},
            }
            lines.append({"step": step, "probe": probe, "probe_mean": 0.6})
    lines.append({"step": 200, "event": "collapse", "message": f"us stays at ln K; eps 0.05 is likely {HOSTILE}"})
    lines.append({"step": 300, "event": "collapse", "message": f"us stays at ln K; eps 0.05 is likely {HOSTILE}"})
    return lines


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def pretraining_run(folder: Path) -> Path:
    (folder / "views").mkdir(parents=True)
    config = {
        "method": "swav",
        "steps": 400,
        "batch_size": 96,
        "seed": 1,
        "encoder": "resnet18",
        "prototypes": {"xray": 16, "ct": 32},
        "crops": [80, 80, 40, 40],
        "queue": 0,
        "amp": None,
        "note": HOSTILE,
        "reasons": {
            "prototypes": "min(3000, largest power of two <= N / 32): 744 xray, 1,512 ct images",
            "queue": "(B + Q) / K = 1.365 gives less than one batch",
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest("pretrain")), encoding="utf-8")
    write_lines(folder / "metrics.jsonl", pretraining_lines())
    probes = {
        name: {
            "modality": modality,
            "classes": ["0", "1"],
            "bank_images": 500,
            "test_images": 120,
            "test_patients": 61,
            "rows": [
                {"features": "this encoder", "knn_auc": estimate(0.7786), "linear_auc": estimate(best)},
                {"features": "same network, untrained", "knn_auc": estimate(0.612), "linear_auc": estimate(0.6339)},
                {"features": "raw pixels", "knn_auc": estimate(0.58), "linear_auc": estimate(0.775)},
            ],
        }
        for name, modality, best in (("lesion", "xray", 0.8123), (HOSTILE, "ct", 0.6))
    }
    (folder / "probe.json").write_text(json.dumps({"probes": probes}), encoding="utf-8")
    generator = np.random.default_rng(0)
    for name in ("xray", "ct"):
        rows = []
        for patient in range(3):
            row, column = np.mgrid[0:96, 0:80] / 80
            image = 0.2 + 0.6 * np.exp(-((row - 0.5) ** 2 + (column - 0.4 - 0.1 * patient) ** 2) * 8)
            image = image + 0.03 * generator.normal(size=image.shape)
            crops = [("global 1", image[:80]), ("global 2", image[10:90, ::-1])]
            crops += [(f"local {n}", image[n * 8 : n * 8 + 40, 20:60]) for n in range(4)]
            rows.append((f"patient {patient} view PA", [("stored", image), *crops]))
        view_sheet(rows, folder / "views" / f"{name}.png")
    return folder


def finetuning_run(
    folder: Path, encoder: str, shift: float, label: str = "lesion", classes: tuple[str, ...] = ("lesion",)
) -> Path:
    folder.mkdir(parents=True)
    config = {"label": label, "steps": 200, "seed": 1, "reasons": {"steps": "10 passes over 96 images"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest("finetune", encoder=encoder)), encoding="utf-8")
    lines: list[dict[str, Any]] = [
        {"step": s, "seconds": 0.4 * s, "loss": 0.7 * math.exp(-s / 120), "learning_rate": 1e-3 * (1 - s / 220)}
        for s in range(5, 201, 5)
    ]
    lines += [{"step": s, "validation_auc": 0.5 + (0.2 + shift / 10) * s / 200} for s in range(25, 201, 25)]
    write_lines(folder / "metrics.jsonl", lines)
    generator = np.random.default_rng(7)
    targets = (generator.random((120, len(classes))) < 0.35).astype(float)
    scores = 1 / (1 + np.exp(-(generator.normal(size=targets.shape) + shift * (targets - 0.5))))
    patients = np.asarray([f"p{n // 2}" for n in range(120)])
    evaluation = {
        "task": "classification",
        "label": label,
        "split": "test",
        "encoder": encoder,
        "classes": list(classes),
        **evaluate_scores(scores, targets, patients, classes, rounds=300),
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    return folder
