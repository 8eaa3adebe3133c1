"""The files of a run: config.yaml, metrics.jsonl with TensorBoard events beside it, manifest.json."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from scoutview.errors import UsageError
from scoutview.files import finite, left_over, read_yaml, write_json, write_text

_ARCHIVES = ("archive", "earlier_archives")
_CONDUCT = ("workers", "compile", "checkpoint_activations", "keep")
"""Settings that change nothing of the result, which may differ from machine to machine."""


@dataclass
class RunFolder:
    """A run on disk. Only rank 0 writes; on other ranks every method does nothing."""

    path: Path
    writes: bool = True
    started: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0
    listeners: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)
    _board: Any = None

    def prepare(
        self,
        config: Mapping[str, Any],
        reasons: Mapping[str, str],
        archive: Mapping[str, Any] | None = None,
        changed_store: Literal["refuse", "accept"] = "refuse",
    ) -> list[Any]:
        """Create the folder, or check that it belongs to the same configuration and the same images.

        archive: what names the images of the run and their order; config.yaml keeps it. With changed_store "accept"
        it may be another one than before. Returns those that the run had before, the first one first.

        Raises:
            UsageError: if the folder holds something else or a run with other settings or images; the message names
                them.
        """
        file = self.path / "config.yaml"
        earlier: list[Any] = []
        if file.exists():
            known = read_config(self.path)
            keys = {*known, *config} - {"reasons", *_ARCHIVES, *_CONDUCT}
            differing = sorted(key for key in keys if _plain(known.get(key)) != _plain(config.get(key)))
            if differing:
                changes = ", ".join(f"{key}: {known.get(key)} -> {config.get(key)}" for key in differing[:4])
                raise UsageError(f"{self.path} holds a run with other settings ({changes}): give another --out")
            before, earlier = known.get("archive"), known.get("earlier_archives", [])
            if before != _plain(archive):
                if changed_store == "refuse":
                    raise UsageError(
                        f"{self.path} holds a run on other images ({_named(before)}, now {_named(archive)}), whose "
                        "batches come in another order: give another --out, or add --changed_store accept to go on "
                        "with what the stores hold now"
                    )
                earlier = [*earlier, before]
        elif self.writes:
            # Other ranks may come while the writing one is making the folder; a kill may have left its first file torn.
            for temporary in self._torn():
                temporary.unlink()
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            content = {**_plain(dict(config)), "reasons": dict(reasons)}
            if archive is not None:
                content |= {"archive": _plain(archive), "earlier_archives": earlier}
            write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        return earlier

    def rehearse(self, config: Mapping[str, Any], archive: Mapping[str, Any] | None = None) -> bool:
        """What `prepare` would refuse is refused, and nothing is written; True if there is a run to go on with."""
        there = (self.path / "config.yaml").exists()
        if not there:
            self._torn()
        RunFolder(self.path, writes=False).prepare(config, {}, archive)
        return there

    def _torn(self) -> list[Path]:
        """What a kill left of the first file of the run; refuses a folder of anything else."""
        torn = left_over(self.path / "config.yaml")
        if self.path.exists() and (not self.path.is_dir() or set(self.path.iterdir()) > set(torn)):
            raise UsageError(f"{self.path} is not empty and holds no run: give another --out")
        return torn

    def continue_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl that belong to steps after `step`: they will be written again."""
        file = self.path / "metrics.jsonl"
        if not self.writes or not file.exists():
            return
        kept = []
        for line in read_metrics(self.path):
            if line["step"] <= step:
                kept.append(line)
                self.seconds_before = max(self.seconds_before, line.get("seconds", 0.0))
        write_text(file, "".join(json.dumps(line) + "\n" for line in kept))

    def seconds(self) -> float:
        """Seconds of work so far, those before a restart included."""
        return self.seconds_before + time.monotonic() - self.started

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl, and its numbers to TensorBoard. NaN becomes null."""
        if not self.writes:
            return
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(line), allow_nan=False) + "\n")
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and not needed to read a run

            self._board = SummaryWriter(str(self.path), purge_step=line["step"])
        for name, value in numbers_of(line):
            self._board.add_scalar(name, value, line["step"])
        for listener in self.listeners:
            listener(line)

    def manifest(self, content: dict[str, Any]) -> None:
        """Write manifest.json: versions, host, and what the caller adds."""
        if self.writes:
            write_json(self.path / "manifest.json", {**_versions(), **content, "seconds": round(self.seconds(), 1)})

    def close(self) -> None:
        """Flush the TensorBoard events."""
        if self._board is not None:
            self._board.close()
            self._board = None


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        UsageError: if the folder holds no run, or what cannot be settings.
    """
    file = path / "config.yaml"
    if not file.is_file():
        raise UsageError(f"{path} holds no run (it has no config.yaml): give the --out folder of pretrain or finetune")
    try:
        content = read_yaml(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no settings")
    except ValueError as error:
        raise UsageError(f"{file} is damaged ({error}): restore it from a copy, or take another folder") from error
    return content


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a kill cut short is left out."""
    file = path / "metrics.jsonl"
    lines: list[dict[str, Any]] = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines


def timestamp() -> str:
    """Now, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def device_name() -> str:
    """What networks run on here: the name of the GPU, or cpu."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def _versions() -> dict[str, Any]:
    from scoutview import __version__

    return {
        "scoutview": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "host": {"cores": os.cpu_count(), "device": device_name(), "machine": platform.machine()},
    }


def _named(archive: Any) -> str:
    """An archive as one reads it in a message."""
    return ", ".join(f"{key} {value}" for key, value in _plain(archive).items()) if archive else "not named"


def _plain(value: Any) -> Any:
    """As YAML keeps it: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def numbers_of(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of a nested line with their names, such as modalities/ct/loss; `step` is left out."""
    pairs: list[tuple[str, float]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            pairs += numbers_of(item, f"{prefix}{key}/")
        elif isinstance(item, int | float) and key != "step":
            pairs.append((prefix + key, float(item)))
    return pairs
