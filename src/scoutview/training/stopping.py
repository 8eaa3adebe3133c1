"""Ending a run early and cleanly: a signal or a limit of time, on which all ranks agree at the same step."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""SIGTERM as schedulers send before they kill; SIGUSR1 as `sbatch --signal=USR1@300` sends ahead of a limit."""


class Stop:
    """Whether to stop after this step. Used as a context, which puts the handlers of before back at its end.

    Each rank may receive the signal at another time, so they ask each other in every step, beside the work of the
    device, over a group of processes of its own.
    """

    def __init__(self, seconds: float | None, ranks: int) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.reason = ""
        self.group = dist.new_group(backend="gloo") if ranks > 1 else None
        self.flag = torch.zeros(1, dtype=torch.int32)
        self.pending: Any = None
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self.handlers = {number: signal.signal(number, self._received) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name

    def ask(self) -> None:
        """At the beginning of a step: tell the other ranks."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = self.reason or "time limit"
        self.flag.fill_(int(bool(self.reason)))
        if self.group is not None:
            self.pending = dist.all_reduce(self.flag, op=dist.ReduceOp.MAX, group=self.group, async_op=True)

    def agreed(self) -> str:
        """At its end: why all ranks stop now, or nothing."""
        if self.pending is not None:
            self.pending.wait()
        if not int(self.flag):
            return ""
        return self.reason or "another rank"
