"""`scoutview study`: encoders x label fractions x seeds on the user's own tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scoutview.batches import Archive
from scoutview.commands.pretrain import pretrain
from scoutview.commands.terminal import cells as texts
from scoutview.commands.terminal import printable
from scoutview.encoders import Encoder, untrained_encoder
from scoutview.errors import RunError, UsageError
from scoutview.files import write_json
from scoutview.ingest.cluster import on_cluster
from scoutview.ingest.pool import Spread, on_this_machine
from scoutview.preprocessing import Preprocessing
from scoutview.pretraining import load_recipe, resolve_input_size
from scoutview.progress import left
from scoutview.report import write_study_report
from scoutview.study import Sources, Study, StudyPlan, load_plan, open_tasks, run_grid, summarise
from scoutview.study.cells import read_result
from scoutview.study.plan import Cell
from scoutview.training import RunFolder
from scoutview.training.run_folder import timestamp

DEFAULT_RECIPE = "small_cpu"


def study(
    file: Path, *, out: Path, at_once: int = 1, cluster: str | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Compare encoders with random weights at several label fractions, on your own labels, over several seeds.

    FILE is YAML: `stores` (a list of folders), `tasks` (a list of labels; or a name with its labels, or with a `task`
    of scoutview finetune, its `label` and settings), `encoders` (a name with its run folder, encoder file or published
    ResNet weights, or with a recipe and settings to pretrain it first), and if wanted `fractions`, `seeds`, `finetune`
    (settings of scoutview finetune that all tasks have), `search` (settings with a list of values each, of which
    validation chooses), `compare` (pairs of encoders) and `robustness` (numbers of cases and transforms). Paths are
    relative to the file. Each cell fine-tunes, and of a classification probes the frozen features. A cell that fails
    is tried again by the next run. Running the same command again continues.

    Args:
        file: The study file.
        out: Folder of the study.
        at_once: Cells that run side by side, a thread each, on the GPUs in turn; 1 gives one cell all threads.
        cluster: Address of a dask scheduler whose workers run the cells, such as tcp://host:8786, or "local".
        dry_run: Say which cells there are and which are done, and write nothing.

    Returns:
        The content of study.json; of a dry run the number of cells and of those that are done.

    Raises:
        UsageError: Wrong file, stores, labels or encoders, or a folder with another study.
        RunError: No row of the study could be completed.
    """
    if at_once < 1:
        raise UsageError(f"--at_once is {at_once}: give 1 or more, the cells to run at a time")
    plan = load_plan(file, out)
    provenance = _check(plan, out)
    run = RunFolder(out)
    # What is compared may change once the grid is there; what the cells depend on may not.
    config = {key: value for key, value in plan.as_dict().items() if value and key != "compare"}
    if dry_run:
        run.rehearse({**config, "provenance": provenance})
        return _foresee(plan, out)
    run.prepare({**config, "provenance": provenance}, {})
    manifest: dict[str, Any] = {"command": "study", "started": timestamp()}
    run.manifest({**manifest, "status": "running"})
    console = Console(stderr=True)

    began, done = time.monotonic(), 0

    def show(cell: Cell, error: str | None, through: int, cells: int) -> None:
        nonlocal done
        done += 1
        rest = left(time.monotonic() - began, done, done + cells - through)
        line = printable(f"{through}/{cells} {cell}{f': FAILED: {error}' if error else ''}{rest}")
        console.print(line, highlight=False, markup=False)

    try:
        _pretrain(plan)
        grid = Study(plan, out)
        stores = grid.archive.stores
        manifest["stores"] = [{"path": str(store.path), "snapshot": store.snapshot()} for store in stores]
        run.manifest({**manifest, "status": "running"})
        with _workers(plan, out, at_once, cluster) as spread:
            run_grid(plan, out, spread, show)
    except BaseException as error:
        run.manifest({**manifest, "status": f"failed: {str(error) or type(error).__name__}"})
        raise
    content = summarise(grid)
    write_json(out / "study.json", content)
    failures = content["failures"]
    run.manifest({**manifest, "status": f"{len(failures)} cells failed" if failures else "finished"})
    write_study_report(out, out / "report.html")
    _show(content)
    print(f"study: {out / 'study.json'}")
    print(f"report: {out / 'report.html'}")
    if failures and not content["areas"]:
        raise RunError(
            f"no row of the study is complete, as {len(failures)} cells failed; the first said: {failures[0]['error']}"
        )
    return content


def _check(plan: StudyPlan, out: Path) -> dict[str, Any]:
    """Refuse what cannot be before there is a folder or an hour of pretraining; the provenance of given encoders."""
    given = {name: path for name, path in plan.encoders.items() if name not in plan.recipes}
    encoders: dict[str, Encoder] = {}
    if given:
        encoders = Study(replace(plan, encoders=given, recipes={}, compare="all"), out).encoders
    architectures = {name: encoder.architecture for name, encoder in encoders.items()}
    for name, arguments in plan.recipes.items():
        recipe = load_recipe(*_recipe(arguments))
        architectures[name] = recipe.encoder
        if not encoders:
            fresh = untrained_encoder(recipe.encoder, resolve_input_size(recipe)[0], Preprocessing())
            open_tasks(plan, Sources(Archive.open(plan.stores), fresh))
    if len(set(architectures.values())) > 1:
        told = ", ".join(f"{name} is a {architecture}" for name, architecture in architectures.items())
        raise UsageError(f"encoders of different architectures ({told}): compare like with like")
    return {name: encoder.provenance for name, encoder in encoders.items()}


def _foresee(plan: StudyPlan, out: Path) -> dict[str, Any]:
    """Tell what a run would do."""
    for name in plan.recipes:
        there = (Path(plan.encoders[name]) / "encoder.safetensors").exists()
        print(f"  {name}: {'is pretrained' if there else 'would be pretrained, or gone on with'}")
    cells = list(plan.cells())
    results = [result for cell in cells if (result := read_result(cell.folder(out))) is not None]
    took = [result["seconds"] for result in results if "seconds" in result]
    left = (len(cells) - len(results)) * sum(took) / len(took) / 3600 if took else None
    told = f", {left:.1f} hours one after the other" if left else ""
    print(f"dry run: {len(results)} of {len(cells)} cells are done{told}; nothing was written")
    return {"cells": len(cells), "done": len(results)}


def _recipe(arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    settings = {key: value for key, value in arguments.items() if key not in ("recipe", "init")}
    return arguments.get("recipe", DEFAULT_RECIPE), settings


def _pretrain(plan: StudyPlan) -> None:
    """The encoders that are recipes, each in its folder; finished ones are left alone.

    Raises:
        RunError: a pretraining was stopped, by a signal that it obeys behind a checkpoint.
    """
    for name, arguments in plan.recipes.items():
        folder = Path(plan.encoders[name])
        recipe, settings = _recipe(arguments)
        init = Path(arguments["init"]) if "init" in arguments else None
        pretrain([Path(store) for store in plan.stores], out=folder, recipe=recipe, init=init, **settings)
        if not (folder / "encoder.safetensors").exists():
            raise RunError(f"the pretraining of {name} was stopped: the same command goes on with it")


def _workers(plan: StudyPlan, out: Path, at_once: int, cluster: str | None) -> AbstractContextManager[Spread]:
    if cluster is None:
        return on_this_machine(at_once)
    shared = [out, *map(Path, plan.stores), *map(Path, plan.encoders.values())]
    return on_cluster(cluster, at_once, [path.absolute() for path in shared])


def _show(content: dict[str, Any]) -> None:
    """The fine-tuned figures; probes, areas and convergence are on the page."""
    table = Table("task", "labels", "encoder", "against", "AUC", "95% interval", title="Fine-tuned, test cases")
    for entry in content["differences"]:
        figure = entry["difference"]
        if entry["measure"] == "fine-tuned":
            table.add_row(
                *texts(
                    entry["task"],
                    f"{entry['fraction']:.0%}",
                    entry["encoder"],
                    entry["reference"],
                    f"{figure['value']:+.3f}",
                    f"{figure['low']:+.3f} to {figure['high']:+.3f}",
                )
            )
    for entry in content["failures"]:
        cell = Cell(*(entry[key] for key in ("task", "encoder", "fraction", "seed", "choice")))
        table.add_row(*texts(cell.task, f"{cell.fraction:.0%}", cell.encoder, "", "FAILED", f"seed {cell.seed}"))
    Console().print(table)
    if content["failures"]:
        print(f"{len(content['failures'])} of {content['cells']} cells failed: the same command tries them again")
