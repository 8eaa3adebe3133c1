"""Running the grid: every cell that has no result yet, in this process or in several side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from scoutview.study.cells import Study, read_result, run_cell
from scoutview.study.plan import Cell, StudyPlan


def run_grid(plan: StudyPlan, out: Path, at_once: int, done: Callable[[Cell, int, int], None]) -> None:
    """Run what is missing. at_once: processes of one thread each; 1 runs here, with all threads.

    done: called after each cell with (cell, how many are done, how many there are). The results do not depend on
    the order; threads change them within rounding.
    """
    cells = list(plan.cells())
    missing = [cell for cell in cells if read_result(cell.folder(out)) is None]
    count = len(cells) - len(missing)
    if not missing:
        return
    if at_once == 1:
        study = Study(plan, out)
        for cell in missing:
            run_cell(study, cell)
            count += 1
            done(cell, count, len(cells))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = {pool.submit(_in_process, plan, out, cell): cell for cell in missing}
        try:
            for future in as_completed(futures):
                future.result()
                count += 1
                done(futures[future], count, len(cells))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_STUDY: list[Study] = []


def _in_process(plan: StudyPlan, out: Path, cell: Cell) -> None:
    if not _STUDY:
        _STUDY.append(Study(plan, out))
    run_cell(_STUDY[0], cell)
