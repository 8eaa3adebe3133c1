"""A run folder as far as it can be read: every file may be absent, half written or from a dying run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scoutview.errors import UsageError
from scoutview.files import read_yaml


@dataclass(frozen=True)
class Setting:
    """One line of config.yaml: the value as text, and why it was chosen where it was "auto"."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Event:
    """Something the run reported, `times` times from step `first` to step `last`."""

    kind: str
    message: str
    first: int
    last: int
    times: int


@dataclass(frozen=True)
class Run:
    """What the files of one run say (design section 3).

    `log` holds the metrics.jsonl lines of training, `probes` and `validations` those of the regular checks,
    each ordered by step with one line per step; `views` the sample sheets; `probe` and `evaluation` the
    final figures, empty where the file is absent; `problems` maps a file name to a sentence about it.
    """

    name: str
    settings: Sequence[Setting]
    manifest: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    probes: Sequence[Mapping[str, Any]]
    validations: Sequence[Mapping[str, Any]]
    events: Sequence[Event]
    views: Sequence[Path]
    probe: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    problems: Mapping[str, str]

    @property
    def kind(self) -> str:
        """ "pretrain" or "finetune": from the manifest, else from which result file there is."""
        command = self.manifest.get("command")
        if command in ("pretrain", "finetune"):
            return str(command)
        return "finetune" if self.evaluation or self.validations else "pretrain"

    @property
    def status(self) -> str:
        """The manifest's status, "unknown" without one."""
        return str(self.manifest.get("status") or "unknown")

    @property
    def last_step(self) -> int:
        """The last step that metrics.jsonl mentions, 0 without any."""
        return max((line["step"] for line in (*self.log, *self.probes, *self.validations)), default=0)


def read_run(folder: Path) -> Run:
    """Read one run folder. Raises `UsageError` only where there is no such folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a run folder; give the --out folder of pretrain or finetune")
    problems: dict[str, str] = {}
    lines = _lines(folder / "metrics.jsonl", problems)
    return Run(
        name=folder.resolve().name,
        settings=_settings(folder / "config.yaml", problems),
        manifest=_json(folder / "manifest.json", problems),
        log=_by_step(line for line in lines if "loss" in line),
        probes=_by_step(line for line in lines if "probe" in line),
        validations=_by_step(line for line in lines if any(key.startswith("validation_") for key in line)),
        events=_events(line for line in lines if "event" in line),
        views=sorted((folder / "views").glob("*.png")),
        probe=_json(folder / "probe.json", problems),
        evaluation=_json(folder / "evaluation.json", problems),
        problems=problems,
    )


def mapping(value: Any) -> dict[str, Any]:
    """`value` where it is a mapping, else an empty one; keys as text."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def listing(value: Any) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def number(value: Any) -> float | None:
    """`value` as a finite number, None for anything else (null, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Not only infinity: JSON has whole numbers beyond what a float holds.
    return float(value) if abs(value) < 1e300 else None


def _text(path: Path, problems: dict[str, str]) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        problems[path.name] = f"There is no {path.name} in this run."
    except OSError as error:
        problems[path.name] = f"{path.name} could not be read: {error.strerror}."
    return None


def _json(path: Path, problems: dict[str, str]) -> dict[str, Any]:
    text = _text(path, problems)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        problems[path.name] = f"{path.name} is damaged or only half written; what it holds is not shown."
    return mapping(value)


def _settings(path: Path, problems: dict[str, str]) -> list[Setting]:
    text = _text(path, problems)
    if text is None:
        return []
    try:
        config = read_yaml(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        problems[path.name] = f"{path.name} is damaged or only half written; the settings are not shown."
        return []
    reasons = mapping(config.pop("reasons", None))
    return [Setting(str(name), _written(value), str(reasons.get(str(name)) or "")) for name, value in config.items()]


def _written(value: Any) -> str:
    """A value as the user would write it in the YAML file."""
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _lines(path: Path, problems: dict[str, str]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are objects with a step; the others are counted, never guessed."""
    text = _text(path, problems)
    taken, torn = [], 0
    for line in (text or "").splitlines():
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        step = number(value.get("step")) if isinstance(value, dict) else None
        if step is None:
            torn += 1
        else:
            taken.append({**value, "step": int(step)})
    if torn:
        problems[path.name] = (
            f"{torn} line{'s' if torn > 1 else ''} of {path.name} could not be read and "
            f"{'are' if torn > 1 else 'is'} left out; a run that was stopped can leave its last line half written."
        )
    elif text is not None and not taken:
        problems[path.name] = f"{path.name} is empty: nothing has been logged yet."
    return taken


def _by_step(lines: Any) -> list[dict[str, Any]]:
    """One line per step, in order. A continued run logs some steps twice; the later line is the run's."""
    return [line for _, line in sorted({line["step"]: line for line in lines}.items())]


def _events(lines: Any) -> list[Event]:
    """Equal events as one, in order of their first step."""
    steps: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        steps.setdefault((str(line["event"]), str(line.get("message", ""))), []).append(line["step"])
    events = [Event(kind, message, min(at), max(at), len(at)) for (kind, message), at in steps.items()]
    return sorted(events, key=lambda event: event.first)
