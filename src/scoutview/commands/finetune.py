"""`scoutview finetune`: a classifier from an encoder and labels."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from scoutview.batches import Archive
from scoutview.commands.sources import find_encoder
from scoutview.errors import UsageError
from scoutview.report import write_report
from scoutview.tasks import FinetuneSettings, class_targets, finetune_classification, save_classifier
from scoutview.training import RunFolder, device
from scoutview.training.run_folder import timestamp


def finetune(
    task: Literal["classification"],
    store: Path,
    *,
    encoder: str,
    out: Path,
    label: list[str],
    **settings: Any,
) -> Path:
    """Fine-tune an encoder on labels of a store; the weights of the best validation AUC are kept.

    Every setting of the task is an option of its own. Running the same command again continues.

    Args:
        task: What to train.
        store: Store with the labels.
        encoder: Run folder, encoder file, published ResNet weights, or none for an untrained network.
        out: Folder of the run.
        label: One label (a 0/1 finding, or one of several classes), or several 0/1 findings.
        settings: Settings that replace the defaults.

    Returns:
        The run folder.

    Raises:
        UsageError: Wrong encoder, store, label or settings, or a folder with another run.
    """
    if task != "classification":
        raise UsageError(f"unknown task {task!r}: this version knows classification")
    chosen = make_settings(settings)
    archive = Archive.open([store])
    network = find_encoder(encoder)
    train = class_targets(archive, label, ("train",))
    validation = class_targets(archive, label, ("validation",), train.classes)
    steps = chosen.resolved_steps(len(train.indices))
    reasons = {} if chosen.steps == steps else {"steps": f"30 passes over {len(train.indices)} labelled images"}
    run = RunFolder(out)
    config = {**asdict(chosen), "steps": steps, "task": task, "label": list(label), "encoder": str(encoder)}
    run.prepare(config, reasons)
    if (out / "head.safetensors").exists():
        print(f"{out} is finished: evaluate it with scoutview evaluate {out} {store}")
        return out
    console = Console(stderr=True)
    console.print(
        f"fine-tuning {network.name} on {len(train.indices)} images, {len(validation.indices)} for validation, "
        f"{steps} steps",
        highlight=False,
    )
    run.listeners.append(lambda line: _show(console, line, steps))
    kept = {"path": str(store), "snapshot": archive.stores[0].snapshot(), "images": {"labelled": len(train.indices)}}
    manifest = {"command": "finetune", "encoder": encoder, "stores": [kept], "started": timestamp()}
    run.manifest({**manifest, "status": "running"})
    try:
        model = finetune_classification(archive, network, label, train, validation, chosen, run, device())
    except BaseException as error:
        run.manifest({**manifest, "status": f"failed: {str(error) or type(error).__name__}"})
        raise
    finally:
        run.close()
    save_classifier(model, out)
    run.manifest({**manifest, "status": "finished"})
    write_report([out], out / "report.html", "Fine-tuning report")
    print(f"model: {out}")
    return out


def _show(console: Console, line: dict[str, Any], steps: int) -> None:
    if "validation_auc" in line:
        text = f"step {line['step']}/{steps}: validation AUC {line['validation_auc']:.3f}"
        console.print(text, highlight=False)


def make_settings(values: dict[str, Any]) -> FinetuneSettings:
    """FinetuneSettings with some values replaced.

    Raises:
        UsageError: if a name is unknown.
    """
    known = [field.name for field in fields(FinetuneSettings)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}: known are {', '.join(known)}")
    return FinetuneSettings(**values)
