"""`scoutview pretrain`: an encoder from unlabelled images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from scoutview.batches import Archive, BatchPlan, Selection, VolumeDataset, read_unit_image
from scoutview.batches.loader import ViewDataset, collate_views
from scoutview.commands.terminal import printable
from scoutview.encoders import Encoder, open_encoder
from scoutview.errors import UsageError
from scoutview.preprocessing import NoBrainError, Preprocessing
from scoutview.pretraining import (
    Conduct,
    Settings,
    TrainingData,
    labels_of,
    load_recipe,
    resolve,
    run_pretraining,
)
from scoutview.report import view_sheet, write_report
from scoutview.training import LoggerName, RunFolder, following, make_fabric
from scoutview.training.run_folder import timestamp
from scoutview.views import draw_photo, render_views

SHEET_IMAGES = 4
"""Images per modality on the sheet of sample views."""


def pretrain(
    stores: list[Path],
    *,
    out: Path,
    recipe: str = "small_cpu",
    init: Path | None = None,
    changed_store: Literal["refuse", "accept"] = "refuse",
    stop_after: float | None = None,
    profile: bool = False,
    logger: LoggerName = "none",
    dry_run: bool = False,
    **settings: Any,
) -> Path:
    """Pretrain an encoder on the unlabelled images of one or more stores.

    Every setting of the recipe is an option of its own. Running the same command again continues an interrupted run.
    Under torchrun or SLURM all ranks take part.

    Args:
        stores: Folders of stores.
        out: Folder of the run.
        recipe: Name of a recipe (demo, small_cpu, plain_swav, xray_2d, mixed_2d, ct_3d) or a YAML file.
        init: Run folder, encoder file or published ResNet weights to start from instead of random ones.
        changed_store: Whether a run may continue on stores that have changed, so that batches come in another order.
        stop_after: Hours after which a checkpoint is written and the command ends, to be continued by the next one. On
            SIGTERM or SIGUSR1 it does the same.
        profile: Record a few steps: a trace and a table of where their time goes, in the folder `profile` of the run.
        logger: Where else the lines of metrics.jsonl go, as they are written; by its own settings, such as
            WANDB_MODE or MLFLOW_TRACKING_URI.
        dry_run: Say what would be done, read one image of each modality, and write nothing.
        settings: Settings that replace those of the recipe.

    Returns:
        The run folder, with encoder.safetensors and report.html.

    Raises:
        UsageError: Wrong stores, recipe or settings, or a folder with another run or a run on other images.
        RunError: The loss stayed non-finite, or a stored image is damaged.
    """
    chosen = load_recipe(recipe, settings)
    archive = Archive.open(stores)
    labels_of(archive, chosen)  # what cannot be is refused before there is a run folder
    initial = _initial(init, chosen.encoder)
    data = TrainingData.of(archive, chosen)
    selections = data.selections
    images = {name: len(selection) for name, selection in selections.items()}
    resolved = resolve(chosen, images)
    fabric = make_fabric(resolved.precision)
    plan = BatchPlan.make(
        selections, chosen.batch_size, chosen.seed, fabric.world_size, proportional=chosen.proportional
    )
    finished = (out / "encoder.safetensors").exists()
    run = RunFolder(out, writes=fabric.global_rank == 0 and not finished and not dry_run)
    named = {"stores": [store.snapshot() for store in archive.stores], "selection": _digest(data.images)}
    config = {**resolved.config(), "init": str(init) if init else None}
    if dry_run:
        continues = run.rehearse(config, named if changed_store == "refuse" else None)
    earlier = [] if dry_run else run.prepare(config, resolved.reasons, named, changed_store)
    if finished:
        print(f"{out} is finished: {out / 'report.html'}")
        return out
    console = Console(stderr=True, markup=False)
    _announce(console, resolved, plan, fabric.world_size)
    for line in data.volumes.left_out() if data.volumes else ():
        console.print(printable(f"  {line}"), highlight=False)
    if dry_run:
        _read_one_each(data, initial.preprocessing if initial else Preprocessing())
        done = f"go on with the run in {out}" if continues else f"make the run {out}"
        print(f"dry run: would {done}, {chosen.steps} steps; nothing was written")
        return out
    provenance = {
        "method": chosen.method,
        "label": chosen.label,
        "steps": chosen.steps,
        "stores": [{"snapshot": store.snapshot(), "path": store.path.name} for store in archive.stores],
        "earlier_archives": earlier,
        "images": images,
        **({"volumes": "head" if chosen.head else "whole"} if chosen.spatial_dims == 3 else {}),
        "initial": initial.provenance if initial else None,
    }
    manifest = {
        "command": "pretrain",
        "stores": _stores(archive, images),
        "earlier_archives": earlier,
        "started": timestamp(),
    }
    run.manifest({**manifest, "status": "running"})
    if fabric.global_rank == 0:
        write_view_sheets(data, resolved, initial.preprocessing if initial else Preprocessing(), out)
    run.listeners.append(lambda line: _show(console, line, resolved))
    try:
        conduct = Conduct(None if stop_after is None else 3600 * stop_after, profile)
        with following(logger, run, resolved.config()):
            stopped = run_pretraining(data, resolved, run, fabric, provenance, initial, conduct)
    except BaseException as error:
        run.manifest({**manifest, "status": f"failed: {str(error) or type(error).__name__}"})
        run.close()
        raise
    run.close()
    run.manifest({**manifest, "status": f"stopped: {stopped}" if stopped else "finished"})
    if stopped:
        if fabric.global_rank == 0:
            print(f"stopped ({stopped}) with a checkpoint: the same command goes on from it")
        return out
    if fabric.global_rank == 0:
        write_report([out], out / "report.html", "Pretraining report")
        print(f"encoder: {out / 'encoder.safetensors'}")
        print(f"report: {out / 'report.html'}")
    return out


def _read_one_each(data: TrainingData, preprocessing: Preprocessing) -> None:
    """Read the first image or volume of every modality as training does: a damaged or unreadable store says so now."""
    for selection in data.selections.values():
        index = int(selection.indices(0, 1)[0])
        if data.volumes is None:
            read_unit_image(data.archive, index, preprocessing)
        else:
            try:
                data.reader(data.volumes, preprocessing).read(index)
            except NoBrainError:
                continue  # training takes the next volume in its place


def write_view_sheets(data: TrainingData, settings: Settings, preprocessing: Preprocessing, run: Path) -> None:
    """One picture per modality in the run's folder `views`: some images, each with all the views of step 0.

    Of volumes the middle slices are shown.
    """
    recipe = settings.recipe
    views = recipe.view_settings()
    selections = data.selections
    names = list(selections)
    dataset = data.dataset(preprocessing, run)
    # With one place per modality, a batch shows one image of each, and the first batches show different ones.
    plan = BatchPlan.make(selections, len(names), recipe.seed, spares=recipe.damaged == "replace")
    for number, name in enumerate(names):
        shown = range(min(SHEET_IMAGES, len(plan.lanes[number].selection)))
        draws = [replace(plan.batch(place)[number], step=0, position=place) for place in shown]
        samples = [dataset[draw] for draw in draws]
        batch = collate_views(samples)
        sizes = views.view_sizes()
        photo = draw_photo(batch.position.tolist(), len(sizes), seed=recipe.seed, step=0) if recipe.photo else None
        groups = render_views(batch.views, sizes, photo)
        rows = []
        for place, index in enumerate(sample.draw.index for sample in samples):
            title, whole = _whole(data.archive, dataset, index, preprocessing)
            pictures = [(f"whole {'volume' if recipe.spatial_dims == 3 else 'image'}", whole)]
            count = 0
            for group in groups:
                for view in group[:, place, 0]:
                    side = float(batch.views.scale[place, count]) * min(samples[place].canvas.planes[0])
                    caption = f"view {count + 1}, short side {side:.0f} px"
                    picture = view if view.ndim == 2 else view[len(view) // 2]
                    pictures.append((caption, picture.clamp(0, 1).numpy()))
                    count += 1
            rows.append((title, pictures))
        view_sheet(rows, run / "views" / f"{name}.png")


def _whole(
    archive: Archive, dataset: ViewDataset | VolumeDataset, index: int, preprocessing: Preprocessing
) -> tuple[str, npt.NDArray[np.float32]]:
    """(its name, an image or the middle slice of a volume)."""
    if isinstance(dataset, ViewDataset):
        return archive.rows[index].image[:8], read_unit_image(archive, index, preprocessing)[0]
    pixels, _ = dataset.reader.read(index)
    return dataset.reader.volumes.place(index)[1].stack[:8], pixels[len(pixels) // 2]


def _initial(init: Path | None, architecture: str) -> Encoder | None:
    if init is None:
        return None
    encoder = open_encoder(init, architecture)
    if encoder.architecture != architecture:
        raise UsageError(
            f"{init} is a {encoder.architecture}, the recipe wants {architecture}: "
            f"add --encoder {encoder.architecture}, or start from another file"
        )
    return encoder


def _stores(archive: Archive, images: dict[str, int]) -> list[dict[str, Any]]:
    if len(archive.stores) == 1:
        store = archive.stores[0]
        return [{"path": str(store.path), "snapshot": store.snapshot(), "images": images}]
    entries = []
    for number, store in enumerate(archive.stores):
        held = {part.modality: len(part) for part in archive.segments if part.store == number}
        counts = {name: held.get(name, 0) for name in images}
        entries.append({"path": str(store.path), "snapshot": store.snapshot(), "images": counts})
    return entries


def _digest(selections: Mapping[str, Selection]) -> str:
    """16 hex digits that name which images of the stores take part: splits and filters may depend on annotations."""
    digest = hashlib.sha256()
    for name, selection in selections.items():
        digest.update(f"{name} {len(selection)} ".encode())
        digest.update(selection.bits.tobytes())
    return digest.hexdigest()[:16]


def _announce(console: Console, settings: Settings, plan: BatchPlan, ranks: int) -> None:
    images = [len(lanes.selection) for lanes in plan.lanes]
    unit = "volumes" if settings.recipe.spatial_dims == 3 else "images"
    console.print(f"{sum(images)} {unit} of {len(images)} modalities, {ranks} rank(s)", highlight=False)
    for key, reason in settings.reasons.items():
        console.print(f"  {key}: {getattr(settings, key)} ({reason})", highlight=False)
    for name, lanes, share in zip(plan.modalities, plan.lanes, plan.shares, strict=True):
        count, series = len(lanes.selection), lanes.selection.series_count
        repeats = settings.recipe.steps * share / count
        console.print(f"  {name}: {count} {unit}, each seen {repeats:.1f} times", highlight=False)
        longest = lanes.selection.longest_series
        if longest > 1 and not lanes.separates_series and settings.recipe.spatial_dims == 2:
            console.print(
                f"  {name}: {series} series (up to {longest} images) for {share} places of a batch, "
                "so slices of one can meet in it",
                highlight=False,
            )
    if torch.cuda.is_available():
        console.print(f"  device: {torch.cuda.get_device_name(0)}", highlight=False)


def _show(console: Console, line: dict[str, Any], settings: Settings) -> None:
    """One plain line per log line: what to look at while it trains."""
    if "message" in line:
        kind = "WARNING" if line["event"] == "collapse" else "note"
        console.print(printable(f"{kind} step {line['step']}: {line['message']}"), highlight=False, soft_wrap=True)
    elif "probe" in line:
        probes = ", ".join(f"{name} {entry['auc']:.3f}" for name, entry in line["probe"].items())
        console.print(
            printable(f"step {line['step']}: kNN AUC on validation: {probes}"), highlight=False, soft_wrap=True
        )
    else:
        losses = ", ".join(
            f"{name} {values['loss']:.3f}"
            + (f" of {values['ln_k']:.3f} ({values['prototypes_used']:.0%} of prototypes)" if "ln_k" in values else "")
            for name, values in line["modalities"].items()
        )
        left = (settings.recipe.steps - line["step"]) * line["seconds"] / max(line["step"], 1)
        console.print(
            f"step {line['step']}/{settings.recipe.steps}: {losses}; {line['images_per_second']:.0f} images/s, "
            f"{line['time'][line['slowest']]:.0%} {line['slowest']}, {line['time']['data']:.0%} waiting for data, "
            f"{left / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )
