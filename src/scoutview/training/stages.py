"""Where the time of a step goes, by stage, without making the device wait: events on a GPU, the clock on a CPU."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from scoutview.training.communication import waited

STAGES = ("data", "views", "encoder", "method", "communication", "rest")
"""Waiting for batches; rendering views; the encoder's passes; codes, loss and optimizer; waiting for other ranks; the
log, probes and checkpoints."""


class Stages:
    """Seconds per stage. A mark ends a stage; what this process waited in collectives meanwhile is taken out of it."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = device.type == "cuda"
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.before = dict(self.seconds)
        self.events: list[tuple[str, torch.cuda.Event]] = []
        self.last, self.waited = time.perf_counter(), waited()

    def mark(self, stage: str) -> None:
        """What was done since the last mark was `stage`."""
        if self.gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append((stage, event))
            return
        now, between = time.perf_counter(), waited()
        others = between - self.waited
        self.seconds["communication"] += others
        self.seconds[stage] += now - self.last - others
        self.last, self.waited = now, between

    def totals(self) -> dict[str, float]:
        """Seconds of each stage so far. On a GPU this waits for it."""
        if self.events:
            self.events[-1][1].synchronize()
            for (_, earlier), (stage, event) in zip(self.events, self.events[1:], strict=False):
                self.seconds[stage] += earlier.elapsed_time(event) / 1e3
            self.events = self.events[-1:]
        return dict(self.seconds)

    def lap(self) -> tuple[float, dict[str, float]]:
        """(seconds since the last lap, share of each stage in them)."""
        totals = self.totals()
        spent = {stage: totals[stage] - self.before[stage] for stage in STAGES}
        self.before = totals
        seconds = max(sum(spent.values()), 1e-9)
        return seconds, {stage: value / seconds for stage, value in spent.items()}


def slowest(shares: dict[str, float]) -> str:
    """The stage that takes most, `rest` left out."""
    return max(STAGES[:-1], key=lambda stage: shares[stage])


def watch_gradients(model: Any, stages: Stages) -> None:
    """Tell the backward pass from the wait for its gradients: it ends when the last bucket sets out to other ranks.

    model: DistributedDataParallel, which averages gradients as before.
    """

    def hook(state: Any, bucket: Any) -> Any:
        future = allreduce_hook(dist.group.WORLD, bucket)  # type: ignore[arg-type]
        if bucket.is_last():
            stages.mark("encoder")
        return future

    # torch compares annotations with its own types, and finds text where they are postponed.
    hook.__annotations__.clear()
    model.register_comm_hook(None, hook)
