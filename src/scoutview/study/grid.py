"""Running the grid: every cell that has no result yet, by whatever workers the caller has."""

from __future__ import annotations

import multiprocessing
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from scoutview.files import write_json
from scoutview.ingest.pool import Spread, here
from scoutview.study.cells import ERROR, Study, read_result, run_cell
from scoutview.study.plan import STAGE1, Cell, StudyPlan

_STUDY: list[tuple[StudyPlan, Path, Study]] = []
_ONE_AT_A_TIME = threading.Lock()
"""Dask gives a worker as many cells as it has threads; torch's generator is one per process."""


def run_grid(plan: StudyPlan, out: Path, spread: Spread, done: Callable[[Cell, str | None, int, int], None]) -> None:
    """Run what is missing, in this process with all threads, or by workers of one thread each.

    What several cells share, stage 1, comes before them. done: called after each cell with (cell, its error if it
    failed, how many are through, how many there are). A cell that fails leaves error.json, does not end the grid, and
    is tried again by the next run. The results do not depend on the order; threads change them within rounding.
    """
    cells = list(plan.cells())
    missing = [cell for cell in cells if read_result(cell.folder(out)) is None]
    # A worker may run in another folder, or on another machine that sees the same paths.
    plan = replace(
        plan,
        stores=tuple(str(Path(path).absolute()) for path in plan.stores),
        encoders={name: str(Path(path).absolute()) for name, path in plan.encoders.items()},
    )
    work = partial(_work, plan, out.absolute(), spread is not here)
    through = len(cells) - len(missing)
    for first in (True, False):
        batch = [cell for cell in missing if (cell.encoder == STAGE1) == first]
        errors = spread(batch, work, partial(_died, out), chunk=1)
        for cell, error in zip(batch, errors, strict=True):
            through += 1
            done(cell, error, through, len(cells))


def _work(plan: StudyPlan, out: Path, in_worker: bool, cells: list[Cell]) -> list[str | None]:
    with _ONE_AT_A_TIME:
        if in_worker:
            _settle()
        return [_attempt(plan, out, cell) for cell in cells]


def _settle() -> None:
    """One thread per worker; the processes of this machine take its GPUs in turn, by their number."""
    torch.set_num_threads(1)
    number = multiprocessing.current_process().name.rpartition("-")[2].rpartition(":")[2]
    if torch.cuda.device_count() > 1 and number.isdecimal():
        torch.cuda.set_device(int(number) % torch.cuda.device_count())


def _attempt(plan: StudyPlan, out: Path, cell: Cell) -> str | None:
    """Run one cell; what goes wrong is kept beside it and returned."""
    folder = cell.folder(out)
    (folder / ERROR).unlink(missing_ok=True)
    try:
        if not _STUDY or _STUDY[0][:2] != (plan, out):
            _STUDY[:] = [(plan, out, Study(plan, out))]
        run_cell(_STUDY[0][2], cell)
    except Exception as error:  # whatever it is, the other cells can do without this one
        text = f"{type(error).__name__}: {error}"
        _keep(folder, text, traceback.format_exc())
        return text
    return None


def _died(out: Path, cell: Cell) -> str:
    text = "the process that ran it was killed, which is mostly for lack of memory"
    _keep(cell.folder(out), text, "")
    return text


def _keep(folder: Path, error: str, trace: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ERROR, {"error": error, "traceback": trace})
