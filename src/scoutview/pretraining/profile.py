"""A profile of some steps of a run: a trace for chrome://tracing or Perfetto, and a table of where a step goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from scoutview.files import write_text
from scoutview.training import Stages
from scoutview.training.stages import STAGES

BEFORE, RECORDED = 3, 5
"""Steps that are left out, since memory is taken and kernels are chosen in them, and steps that are recorded."""
_OPERATIONS = 30


class Profile:
    """Records steps BEFORE, ..., BEFORE + RECORDED - 1 of those made since the start, once."""

    def __init__(self, folder: Path, stages: Stages) -> None:
        self.folder, self.stages = folder, stages
        self.steps = 0
        self.before: dict[str, float] = {}
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        self.recorder: Any = profile(activities=activities)

    def step(self) -> bool:
        """After each step; whether the profile has just been written."""
        self.steps += 1
        if self.steps == BEFORE:
            self.before = self.stages.totals()
            self.recorder.start()
        if self.steps != BEFORE + RECORDED:
            return False
        self.recorder.stop()
        self._write(self.stages.totals())
        return True

    def _write(self, totals: dict[str, float]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recorder.export_chrome_trace(str(self.folder / "trace.json.gz"))
        spent = {stage: totals[stage] - self.before[stage] for stage in STAGES}
        whole = max(sum(spent.values()), 1e-9)
        lines = [f"{RECORDED} steps, {whole / RECORDED:.3f} s each", "", "stage           s a step   share"]
        lines += [f"{stage:<14} {value / RECORDED:>9.4f} {value / whole:>7.1%}" for stage, value in spent.items()]
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        operations = self.recorder.key_averages().table(sort_by=order, row_limit=_OPERATIONS)
        write_text(self.folder / "table.txt", "\n".join(lines) + "\n\n" + operations)
