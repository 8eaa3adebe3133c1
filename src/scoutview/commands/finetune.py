"""`scoutview finetune`: a model for a task from an encoder and labels."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from scoutview.batches import Archive
from scoutview.commands.sources import find_encoder
from scoutview.commands.terminal import printable
from scoutview.encoders import Encoder
from scoutview.errors import UsageError
from scoutview.progress import left
from scoutview.report import write_report
from scoutview.tasks import (
    SETTINGS,
    DetectionSettings,
    FinetuneSettings,
    Job,
    MetastasisSettings,
    classification_job,
    detection_job,
    finetune_task,
    hemorrhage_job,
    metastasis_job,
)
from scoutview.training import LoggerName, RunFolder, device, following
from scoutview.training.run_folder import timestamp

RECIPES = {"hemorrhage_volume": "ct_3d"}
"""The recipe whose network `--encoder none` stands for; of other tasks small_cpu."""


def finetune(
    task: Literal["classification", "chest_detection", "hemorrhage_volume", "metastasis_slices"],
    store: Path,
    *,
    encoder: str,
    out: Path,
    label: list[str] | None = None,
    logger: LoggerName = "none",
    dry_run: bool = False,
    **settings: Any,
) -> Path:
    """Fine-tune an encoder on labels of a store; the weights of the best validation figure are kept.

    Every setting of the task is an option of its own. Running the same command again continues.

    Args:
        task: What to train.
        store: Store with the labels.
        encoder: Run folder, encoder file, published ResNet weights, or none for an untrained network; networks for
            volumes learn from volumes.
        out: Folder of the run.
        label: Of classification: one label (a 0/1 finding, or one of several classes), or several 0/1 findings; of a
            detection: the classes of its boxes, all that there are when it is left out; of slices: the name of their
            masks.
        logger: Where else the lines of metrics.jsonl go, as they are written; by its own settings, such as
            WANDB_MODE or MLFLOW_TRACKING_URI.
        dry_run: Say what would be done, and write nothing.
        settings: Settings that replace the defaults.

    Returns:
        The run folder.

    Raises:
        UsageError: Wrong encoder, store, label or settings, or a folder with another run.
    """
    archive = Archive.open([store])
    network = find_encoder(encoder, RECIPES.get(task, "small_cpu"))
    job = make_job(task, archive, network, tuple(label or ()), make_settings(task, settings))
    kept = {"path": str(store), "snapshot": archive.stores[0].snapshot(), "images": {"labelled": job.task.cases}}
    manifest = {"command": "finetune", "encoder": str(encoder), "stores": [kept]}
    if dry_run:
        config, reasons = _config(job, task, str(encoder))
        continues = RunFolder(out).rehearse(config)
        for key, value in config.items():
            print(f"  {key}: {value}{f' ({reasons[key]})' if key in reasons else ''}")
        state = (
            "is finished" if (out / "head.safetensors").exists() else "would go on" if continues else "would be made"
        )
        print(f"dry run: {out} {state}: {network.name} on {job.cases}, {config['steps']} steps; nothing was written")
        return out
    if run_job(job, out, task, network.name, manifest, logger):
        print(f"model: {out}; evaluate it with scoutview evaluate {out} {store}")
    else:
        print(f"{out} is finished: evaluate it with scoutview evaluate {out} {store}")
    return out


def run_job(job: Job, out: Path, task: str, name: str, manifest: dict[str, Any], logger: LoggerName = "none") -> bool:
    """Train a job in a run folder, after those that it builds on, which have folders below; False if it was finished.

    name: of what is trained, for people. manifest: what manifest.json says besides the times.

    Raises:
        UsageError: if a folder holds another run.
    """
    run = RunFolder(out)
    config, reasons = _config(job, task, manifest["encoder"])
    steps = config["steps"]
    run.prepare(config, reasons)
    if (out / "head.safetensors").exists():
        return False
    console = Console(stderr=True, markup=False)
    manifest = {**manifest, "started": timestamp()}
    run.manifest({**manifest, "status": "running"})
    try:
        for folder, stage in job.stages.items():
            run_job(stage, out / folder, f"{task}, {folder}", folder, {**manifest, "encoder": "none"}, logger)
        job.begin(out)
        console.print(printable(f"fine-tuning {name} on {job.cases}, {steps} steps"), highlight=False)
        run.listeners.append(lambda line: _show(console, line, steps))
        with following(logger, run, config):
            finetune_task(job.task, job.settings, run, device())
    except BaseException as error:
        run.manifest({**manifest, "status": f"failed: {str(error) or type(error).__name__}"})
        raise
    finally:
        run.close()
    job.save(out)
    run.manifest({**manifest, "status": "finished"})
    write_report([out], out / "report.html", "Fine-tuning report")
    return True


def _config(job: Job, task: str, encoder: str) -> tuple[dict[str, Any], dict[str, str]]:
    """(what config.yaml keeps, why it is so)."""
    steps = job.settings.resolved_steps(job.task.cases)
    reasons = {} if job.settings.steps == steps else {"steps": f"30 passes over {job.cases}"}
    values = {**asdict(job.settings), "steps": steps, "task": task, "label": list(job.labels), "encoder": encoder}
    return values, reasons


def make_job(task: str, archive: Archive, encoder: Encoder, labels: tuple[str, ...], settings: FinetuneSettings) -> Job:
    """The task by its name, with the cases of the archive.

    Raises:
        UsageError: if there is no such task, or the archive has no labels for it.
    """
    match task:
        case "classification":
            return classification_job(archive, encoder, labels, settings, device())
        case "chest_detection":
            assert isinstance(settings, DetectionSettings)
            return detection_job(archive, encoder, labels, settings, device())
        case "hemorrhage_volume":
            return hemorrhage_job(archive, encoder, labels, settings, device())
        case "metastasis_slices":
            assert isinstance(settings, MetastasisSettings)
            return metastasis_job(archive, encoder, labels, settings, device())
    raise UsageError(f"unknown task {task!r}: this version knows {', '.join(SETTINGS)}")


def make_settings(task: str, values: dict[str, Any]) -> FinetuneSettings:
    """The settings of a task with some values replaced.

    Raises:
        UsageError: if a name is unknown, or one of another task.
    """
    kind = SETTINGS.get(task, FinetuneSettings)
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(values) - set(known))
    for name, other in SETTINGS.items():
        if unknown and unknown[0] in [field.name for field in fields(other)]:
            raise UsageError(f"{unknown[0]} is a setting of {name}, not of {task}: leave it out")
    if unknown:
        raise UsageError(f"{task} has no setting {unknown[0]!r}: known are {', '.join(known)}")
    return kind(**values)


def _show(console: Console, line: dict[str, Any], steps: int) -> None:
    known = {name.removeprefix("validation_"): value for name, value in line.items() if name.startswith("validation_")}
    figures = [f"{name} {value:.3f}" for name, value in known.items()]
    if figures:
        rest = left(line["seconds"], line["step"], steps)
        console.print(printable(f"step {line['step']}/{steps}: validation {', '.join(figures)}{rest}"), highlight=False)
