"""`scoutview plan`: what a recipe will take on a number of GPUs, from a calibration on this machine."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scoutview.batches import Archive, BatchPlan
from scoutview.batches.budget import Budget, Cluster, StepRates, budget_of
from scoutview.batches.calibration import Calibration, calibrate
from scoutview.batches.kept import Kept
from scoutview.batches.loader import ViewDataset
from scoutview.commands.terminal import cells, printable
from scoutview.errors import UsageError
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining import Recipe, load_recipe
from scoutview.pretraining.speed import measure_steps
from scoutview.training.run_folder import device_name

DATA_SHARE = 0.6
"""Of the time of the calibration, where the steps are measured, too."""
_FIX = {
    "data": "give more cores per node, or fewer GPUs",
    "views": "the GPUs spend most of a step on rendering views: fewer or smaller crops",
    "encoder": "the GPUs are busy with the encoder, as they should be",
    "step": "the GPUs are busy, as they should be",
}


@dataclass(frozen=True)
class Line:
    """One figure of the plan. how: measured here, given, from the catalog, or derived from the others."""

    name: str
    value: str
    how: str


def plan(
    stores: list[Path],
    *,
    gpus: int,
    recipe: str = "small_cpu",
    gpus_per_node: int = 8,
    cores_per_node: int = 0,
    images_per_second_per_gpu: float | None = None,
    seconds: float = 60.0,
    json: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Say what a pretraining will take on some GPUs: hours, images and bytes per second, cores, caches, bottleneck.

    A sample of every modality is read, decoded and prepared as in training, and a few training steps are made on the
    device of this machine unless their speed is given.

    Args:
        stores: Folders of stores.
        gpus: Number of GPUs of the run.
        recipe: Name of a recipe (demo, small_cpu, plain_swav, xray_2d, mixed_2d) or a YAML file.
        gpus_per_node: GPUs in a machine.
        cores_per_node: Processor cores of a machine, 0 for as many as this one has.
        images_per_second_per_gpu: Speed of views and encoder on the GPUs of the run, where this machine has none.
        seconds: Time for the calibration.
        json: End with one line of JSON for programs.
        settings: Settings that replace those of the recipe.

    Returns:
        Every figure of the table, and the measurements that it was made from.

    Raises:
        UsageError: Wrong stores, recipe, settings or numbers.
        RunError: A stored image is damaged.
    """
    _check(gpus, gpus_per_node, cores_per_node, images_per_second_per_gpu, seconds)
    chosen = load_recipe(recipe, settings)
    if chosen.spatial_dims == 3:
        raise UsageError(f"{recipe} trains on volumes, and plan measures images: try it with pretrain --steps 20")
    if chosen.proportional:
        raise UsageError("plan assumes equal parts of each modality: leave --proportional out")
    archive = Archive.open(stores)
    selections = archive.select(chosen.splits, chosen.where)
    one_each = BatchPlan.make(selections, len(selections), chosen.seed)
    given = images_per_second_per_gpu is not None
    calibrations = _calibrations(archive, chosen, one_each, seconds * (1.0 if given else DATA_SHARE))
    counts = {name: len(selection) for name, selection in selections.items()}
    cores = cores_per_node or _cores_here()
    steps: dict[str, Any] = {"device": "given"}
    rates = StepRates(images_per_second_per_gpu or 0.0)
    if not given:
        samples = [calibration.samples for calibration in calibrations]
        share = max(chosen.batch_size // len(selections) // gpus, 1)
        speed = measure_steps(chosen, counts, samples, share, seconds * (1 - DATA_SHARE))
        rates = StepRates(encoder=speed.images / speed.encoder, views=speed.images / speed.views)
        steps = {"device": device_name(), "images": speed.images, "steps": speed.steps}
    budget = budget_of(
        [calibration.cost for calibration in calibrations],
        Cluster(gpus, gpus_per_node, cores),
        rates,
        chosen.steps,
        chosen.batch_size,
    )
    lines = _lines(calibrations, budget, rates, steps, cores, chosen)
    notes = _notes(archive, chosen, gpus, steps)
    _print(lines, notes)
    content = {
        **asdict(budget),
        "rates": {"step": rates.step, "views": rates.views, "encoder": None if given else rates.encoder, **steps},
        "modalities": {item.cost.modality: {**asdict(item.cost), "measured": item.measured} for item in calibrations},
        "recipe": {"name": recipe, "steps": chosen.steps, "batch_size": chosen.batch_size},
        "gpus": gpus,
        "cores_per_node": cores,
        "table": [asdict(line) for line in lines],
        "notes": notes,
    }
    if json:
        print(dumps(content, allow_nan=False), flush=True)
    return content


def _check(gpus: int, gpus_per_node: int, cores_per_node: int, rate: float | None, seconds: float) -> None:
    problems = [
        (gpus < 1, f"gpus is {gpus}: give 1 or more"),
        (gpus_per_node < 1, f"gpus_per_node is {gpus_per_node}: give 1 or more"),
        (cores_per_node < 0, f"cores_per_node is {cores_per_node}: give a number of cores, or 0 for those of this one"),
        (rate is not None and not 0 < rate < float("inf"), f"images_per_second_per_gpu is {rate}: give a rate above 0"),
        (not 0 < seconds < float("inf"), f"seconds is {seconds}: give a time above 0"),
    ]
    for wrong, message in problems:
        if wrong:
            raise UsageError(message)


def _cores_here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _calibrations(archive: Archive, recipe: Recipe, one_each: BatchPlan, seconds: float) -> list[Calibration]:
    preprocessing = Preprocessing()
    references = {name: archive.reference_energies(name, preprocessing.identity()) for name in one_each.modalities}
    dataset = ViewDataset(archive, preprocessing, recipe.view_settings(), references, recipe.seed, Kept(0))
    count = len(one_each.modalities)
    return [calibrate(dataset, one_each, number, seconds / count) for number in range(count)]


def _lines(
    calibrations: list[Calibration],
    budget: Budget,
    rates: StepRates,
    steps: dict[str, Any],
    cores: int,
    recipe: Recipe,
) -> list[Line]:
    lines = []
    for item in calibrations:
        cost = item.cost
        lines.append(
            Line(
                f"{cost.modality} image",
                f"{cost.read_bytes / 1e3:.1f} kB read, {1 / cost.decode_seconds:.0f} decoded and "
                f"{1 / cost.loader_seconds:.0f} prepared per second and core",
                f"measured here on {item.measured} of {cost.images} images",
            )
        )
    read = sum(item.cost.read_bytes * item.measured for item in calibrations)
    clock = sum(item.reading.clock for item in calibrations)
    lines.append(Line("storage", f"{read / clock / 1e9:.3g} GB/s to one reader", "measured here, past the page cache"))
    if rates.views is None:
        lines.append(Line("views and encoder", f"{rates.step:.1f} images/s per GPU", "given"))
    else:
        how = f"measured here on {steps['device']}: {steps['steps']} steps of {steps['images']} images"
        lines += [
            Line("views", f"{rates.views:.1f} images/s per GPU", how),
            Line("encoder", f"{rates.encoder:.1f} images/s per GPU", how),
        ]
    waiting = "" if budget.bottleneck != "data" else f", of which the loaders make {budget.data_rate:.0f}"
    passes = ", ".join(f"{name} {count:.1f}" for name, count in budget.passes.items())
    first = "X-ray and ultrasound" if budget.first_cached_bytes else "none of X-ray and ultrasound"
    return [
        *lines,
        Line("images needed", f"{budget.images_per_second:.1f} per second{waiting}", "derived: GPUs x rate of one"),
        Line("from storage", f"{budget.bytes_per_second / 1e9:.3g} GB/s", "derived, before caches"),
        Line("decode cores per node", f"{budget.decode_cores:.2g} of {cores}", "derived: checksum and decode alone"),
        Line("loader cores per node", f"{budget.loader_cores:.2g} of {cores}", "derived: all that loaders do"),
        Line("loader processes per GPU", f"{budget.processes}", "derived, with waiting for storage: --workers"),
        Line("disk of the stores", f"{_size(budget.stored_bytes)}", "from the catalog"),
        Line("kept in a cache longest", f"{_size(budget.first_cached_bytes)} of {first}", "from the catalog"),
        Line("cache per node", f"{_size(budget.cache_bytes)}", f"derived: {budget.nodes} node(s) read a part each"),
        Line("passes", passes, f"derived: {recipe.steps} steps of {recipe.batch_size} images"),
        Line("time", _time(budget.hours), "derived"),
        Line("bottleneck", _bottleneck(budget), _FIX[budget.bottleneck]),
    ]


def _bottleneck(budget: Budget) -> str:
    return "views and encoder" if budget.bottleneck == "step" else budget.bottleneck


def _size(nbytes: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes / 1e3:.1f} kB"


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours:.1f} hours ({hours / 24:.1f} days)"
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


def _notes(archive: Archive, recipe: Recipe, gpus: int, steps: dict[str, Any]) -> list[str]:
    notes = []
    try:
        BatchPlan.make(archive.select(recipe.splits, recipe.where), recipe.batch_size, recipe.seed, gpus)
    except UsageError as error:
        notes.append(f"pretrain would refuse this: {error}")
    if steps["device"] == "cpu":
        notes.append(
            "views and encoder were measured on this machine's processor: for GPUs, run this on one of them, "
            "or add --images_per_second_per_gpu"
        )
    return notes


def _print(lines: list[Line], notes: list[str]) -> None:
    console = Console()
    if console.is_terminal:
        table = Table(box=None)
        for heading in ("", "value", "how"):
            table.add_column(heading)
        for line in lines:
            table.add_row(*cells(line.name, line.value, line.how))
        console.print(table)
    else:
        for line in lines:
            print(printable(f"{line.name}: {line.value}  ({line.how})"))
    for note in notes:
        print(printable(f"note: {note}"))
