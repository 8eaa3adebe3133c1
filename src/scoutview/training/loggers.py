"""The lines of a run, sent to Weights & Biases or MLflow while it trains; what fails there is a warning here.

A thread sends, so that a slow or absent server never holds a step up. metrics.jsonl has every line in any case.
"""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Literal

from scoutview.errors import UsageError
from scoutview.training.run_folder import RunFolder, numbers_of

LoggerName = Literal["none", "wandb", "mlflow"]
PROJECT = "scoutview"
WAITING = 10_000
"""Lines that may wait for a slow server; later ones are left out."""
PATIENCE = 30.0
"""Seconds that the end of a run waits for what is still to be sent."""

Send = Callable[[dict[str, float], int], None]


@contextmanager
def following(name: LoggerName, run: RunFolder, config: Mapping[str, Any]) -> Iterator[None]:
    """Send what the run logs inside this context; config is sent once, at the beginning.

    Raises:
        UsageError: if the package is not installed.
    """
    if name == "none" or not run.writes:
        yield
        return
    try:
        module = import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} is not installed: pip install 'scoutview[{name}]', or leave --logger out") from error
    waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(WAITING)
    begin = {"wandb": _begin_wandb, "mlflow": _begin_mlflow}[name]
    sender = threading.Thread(target=_send_all, args=(name, begin, module, run, config, waiting), daemon=True)
    sender.start()

    def put(line: dict[str, Any] | None) -> None:
        with suppress(queue.Full):  # the sender is gone or far behind: metrics.jsonl has the line
            waiting.put_nowait(line)

    run.listeners.append(put)
    try:
        yield
    finally:
        run.listeners.remove(put)
        put(None)
        sender.join(PATIENCE)
        if sender.is_alive():
            _warn(name, f"not all was sent within {PATIENCE:.0f} s")


def _send_all(
    name: str,
    begin: Callable[[Any, RunFolder, Mapping[str, Any]], tuple[Send, Callable[[], Any]]],
    module: Any,
    run: RunFolder,
    config: Mapping[str, Any],
    waiting: queue.Queue[dict[str, Any] | None],
) -> None:
    try:
        send, end = begin(module, run, config)
        while (line := waiting.get()) is not None:
            figures = dict(numbers_of(line))
            if figures:
                send(figures, line["step"])
        end()
    except Exception as error:  # whatever a foreign package raises must not end a training
        _warn(name, f"{type(error).__name__}: {error}")


def _begin_wandb(module: Any, run: RunFolder, config: Mapping[str, Any]) -> tuple[Send, Callable[[], Any]]:
    """A continued run goes on under the same id."""
    folder = run.path.resolve()
    number = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    about = {"project": PROJECT, "name": folder.name, "id": number, "resume": "allow", "dir": str(folder)}
    there = module.init(**about, config=dict(config))
    return lambda figures, step: there.log(figures, step=step), there.finish


def _begin_mlflow(module: Any, run: RunFolder, config: Mapping[str, Any]) -> tuple[Send, Callable[[], Any]]:
    """A continued run is a new one of the same name. A client, as MLflow's current run is one per thread."""
    client = module.MlflowClient()
    known = client.get_experiment_by_name(PROJECT)
    experiment = known.experiment_id if known else client.create_experiment(PROJECT)
    number = client.create_run(experiment, run_name=run.path.resolve().name).info.run_id
    for key, value in config.items():
        client.log_param(number, key, str(value)[:500])  # longer ones are refused

    def send(figures: dict[str, float], step: int) -> None:
        for key, value in figures.items():
            client.log_metric(number, key, value, step=step)

    return send, lambda: client.set_terminated(number)


def _warn(name: str, text: str) -> None:
    print(f"warning: {name}: {text}; the training goes on, and metrics.jsonl holds every line", file=sys.stderr)
