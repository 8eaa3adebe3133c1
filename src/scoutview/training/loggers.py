"""The lines of a run, sent to Weights & Biases or MLflow while it trains; what fails there is a warning here.

A thread sends, so that a slow or absent server never holds a step up. metrics.jsonl has every line in any case.
"""

from __future__ import annotations

import queue
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Literal

from scoutview.errors import UsageError
from scoutview.files import write_text
from scoutview.training.run_folder import RunFolder, numbers_of

LoggerName = Literal["none", "wandb", "mlflow"]
"""Where else the lines of a run are sent."""
PROJECT = "scoutview"
IDENTITY = "logged_as"
"""File of a run, and tag of MLflow's, that holds what `_identity` says."""
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
    """What its client gathers by itself is not sent: the console and the command line may name labels and patients."""
    about = {"project": PROJECT, "name": run.path.resolve().name, "id": _identity(run), "resume": "allow"}
    quiet = {"console": "off", "disable_git": True, "host": "", "x_disable_meta": True}
    there = module.init(**about, dir=str(run.path.resolve()), config=dict(config), settings=quiet)
    return lambda figures, step: there.log(figures, step=step), there.finish


def _begin_mlflow(module: Any, run: RunFolder, config: Mapping[str, Any]) -> tuple[Send, Callable[[], Any]]:
    """A client, as MLflow's current run is one per thread."""
    client = module.MlflowClient()
    known = client.get_experiment_by_name(PROJECT)
    experiment = known.experiment_id if known else client.create_experiment(PROJECT)
    identity = _identity(run)
    earlier = client.search_runs([experiment], f"tags.{IDENTITY} = '{identity}'", max_results=1)
    if earlier:
        number = earlier[0].info.run_id
        client.update_run(number, status="RUNNING")
    else:
        tags = {IDENTITY: identity}
        number = client.create_run(experiment, tags=tags, run_name=run.path.resolve().name).info.run_id
        for key, value in config.items():
            client.log_param(number, key, str(value)[:500])  # longer ones are refused

    def send(figures: dict[str, float], step: int) -> None:
        allowed = {re.sub(r"[^\w/.\- :]", "_", key): value for key, value in figures.items()}
        module.log_metrics(allowed, step=step, run_id=number)

    return send, lambda: client.set_terminated(number)


def _identity(run: RunFolder) -> str:
    """What a run is known by where it is sent, kept in its folder: a continued run goes on, one made anew does not."""
    file = run.path / IDENTITY
    if not file.exists():
        write_text(file, uuid.uuid4().hex[:16])
    return file.read_text(encoding="utf-8")


def _warn(name: str, text: str) -> None:
    print(f"warning: {name}: {text}; the training goes on, and metrics.jsonl holds every line", file=sys.stderr)
