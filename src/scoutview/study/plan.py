"""The study file: which tasks, encoders, label fractions and seeds make the grid."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any, Literal

from scoutview.encoders import InputSize
from scoutview.errors import UsageError
from scoutview.files import read_yaml
from scoutview.study.task_plan import TaskPlan, names_of, read_task
from scoutview.tasks import SETTINGS, FinetuneSettings

REFERENCE = "none"
"""The network with random weights, a new draw per seed: what every encoder is compared with."""
RAW = "raw pixels"
"""Small grey images as features: what a probe must beat to have needed a network. It is not fine-tuned."""
STAGE1 = "stage 1"
"""What all encoders of a task share: the networks whose masks a classifier of slices sees."""


@dataclass(frozen=True)
class Robustness:
    """How much is tried: test cases, and transforms of each."""

    cases: int = 50
    transforms: int = 50


@dataclass(frozen=True)
class StudyPlan:
    """What a study compares.

    Attributes:
        stores: folders of stores.
        tasks: what is learnt, by name. In the file the labels of a classification, one or several, or a mapping with
            `task`, `label` and settings; a plain list of labels makes a classification of each.
        encoders: name of an encoder: run folder, encoder file or published weights. All must be of one architecture
            and input size; published weights take that of the others.
        fractions: shares of the training patients that are labelled.
        seeds: how often each cell is repeated, with another labelled part, head, order, and random network.
        input_size: what all encoders are shown, if it is not to be that of their files: the side of images in px, or
            slices, rows and columns of volumes. A detection has an input_size of its own.
        recipes: name of an encoder that the study pretrains itself, into the path in `encoders`: arguments of scoutview
            pretrain. In the file they stand in place of the path.
        finetune: settings of the fine-tuning that replace the defaults, the same for all.
        search: values of some settings to try, every combination for every encoder and for random weights; the best
            on validation counts.
        robustness: how many test cases are changed in how many ways after a fine-tuning at the largest fraction.
        compare: pairs of encoders whose difference is wanted; "all" is the first one against each other one.
    """

    stores: tuple[str, ...]
    tasks: dict[str, TaskPlan]
    encoders: dict[str, str]
    fractions: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1)
    seeds: int = 5
    input_size: InputSize | None = None
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    finetune: dict[str, Any] = field(default_factory=dict)
    search: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    robustness: Robustness | None = None
    compare: tuple[tuple[str, str], ...] | Literal["all"] = "all"

    def __post_init__(self) -> None:
        reserved = sorted({REFERENCE, RAW, STAGE1} & set(self.encoders))
        unfit = sorted(name for name in (*self.tasks, *self.encoders) if Path(name).name != name or name == "..")
        twice = sorted(set(self.search) & set(self.finetune))
        empty = sorted(name for name, values in self.search.items() if not values)
        strange = sorted({name for pair in self.pairs() for name in pair} - set(self.encoders))
        problems = [
            (bool(unfit), f"the name {', '.join(unfit)} cannot be that of a folder"),
            (not self.stores, "stores names no store"),
            (not self.tasks, "tasks names no task"),
            (not self.encoders, "encoders names no encoder"),
            (bool(reserved), f"the encoder name {', '.join(reserved)} is taken: the study adds that one itself"),
            (self.seeds < 1, f"seeds is {self.seeds}: one or more are needed"),
            (not self.fractions, "fractions names no fraction"),
            (not all(0 < each <= 1 for each in self.fractions), f"fractions {self.fractions} must lie in (0, 1]"),
            (
                not _is_size(self.input_size),
                f"input_size {self.input_size!r} must be a whole number of 32 or more px, or of volumes a list of "
                "slices, rows and columns",
            ),
            (bool(twice), f"{', '.join(twice)} stands in finetune and in search: keep one"),
            (bool(empty), f"search has no value for {', '.join(empty)}"),
            (bool(strange), f"compare names {', '.join(strange)}, which is none of the encoders"),
            (
                self.robustness is not None and not all(task.probed for task in self.tasks.values()),
                "robustness is measured of the classification of images alone: leave it out, or the other tasks",
            ),
            (
                self.robustness is not None and min(self.robustness.cases, self.robustness.transforms) < 1,
                "robustness needs one case and one transform or more",
            ),
            (any(a == b for a, b in self.pairs()), "compare names an encoder with itself"),
        ]
        for wrong, message in problems:
            if wrong:
                raise UsageError(f"study file: {message}")
        for choice in self.choices():
            if choice is not None and Path(choice).name != choice:
                raise UsageError(f"study file: search: {choice} cannot be the name of a folder")
        self._check_settings()

    def _check_settings(self) -> None:
        """Refuse settings of the study that not every task has, and values that cannot be."""
        common = names_of(FinetuneSettings)
        for name in {**self.finetune, **self.search}:
            for kind, settings in SETTINGS.items():
                if name not in common and name in names_of(settings):
                    raise UsageError(f"study file: {name} is a setting of {kind}: write it in the mapping of its task")
            if name not in common:
                raise UsageError(f"study file: unknown fine-tuning setting {name!r}: known are {', '.join(common)}")
        for name, task in self.tasks.items():
            twice = sorted(set(task.settings) & set(self.search))
            if twice:
                raise UsageError(f"study file: {', '.join(twice)} stands in task {name} and in search: keep one")
            for choice in self.choices():
                self.settings(name, 0, choice)

    def choices(self) -> dict[str | None, dict[str, Any]]:
        """The settings to try by the name of their folder: every combination; without a search the one None."""
        if not self.search:
            return {None: {}}
        combined = [dict(zip(self.search, values, strict=True)) for values in product(*self.search.values())]
        return {",".join(f"{key}={_word(value)}" for key, value in each.items()): each for each in combined}

    def settings(self, task: str, seed: int, choice: str | None) -> FinetuneSettings:
        """The fine-tuning settings of a task with a seed and a choice; stage 1 is trained without a choice."""
        planned = self.tasks[task]
        chosen = {**self.finetune, **self.choices().get(choice, {}), **planned.settings}
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()
        }
        return SETTINGS[planned.kind](**values, seed=seed)

    def models(self, task: str) -> list[str]:
        """What is compared on a task: random weights, the encoders, and raw pixels where features are probed."""
        return [REFERENCE, *self.encoders, *([RAW] if self.tasks[task].probed else [])]

    def pairs(self) -> list[tuple[str, str]]:
        """The encoders whose difference is wanted: (one, the other)."""
        if self.compare == "all":
            first, *others = self.encoders or [""]
            return [(first, other) for other in others]
        return list(self.compare)

    def cells(self) -> Iterator[Cell]:
        """All cells, seeds outermost, so that a study that was stopped has whole rows of the table."""
        for seed in range(self.seeds):
            for task in self.tasks:
                for fraction in self.fractions:
                    if self.tasks[task].staged:
                        yield Cell(task, STAGE1, fraction, seed)
                    for encoder in self.models(task):
                        if not self.search or self.tasks[task].probed:
                            yield Cell(task, encoder, fraction, seed)
                        if self.search and encoder != RAW:
                            yield from (Cell(task, encoder, fraction, seed, choice) for choice in self.choices())

    def trains(self, cell: Cell) -> bool:
        """Whether a cell is fine-tuned. With a search, the cell without a choice holds the frozen probes alone."""
        return cell.encoder not in (RAW, STAGE1) and cell.choice in self.choices()

    def as_dict(self) -> dict[str, Any]:
        """For config.yaml and study.json, as in the file."""
        content = asdict(self)
        content["encoders"] |= content.pop("recipes")
        content["tasks"] = {name: task.as_given() for name, task in self.tasks.items()}
        return content


@dataclass(frozen=True)
class Cell:
    """One training: a task, an encoder, a label fraction, a seed, and a choice of settings where they are searched.

    In place of an encoder: RAW, or STAGE1, which is trained before the others of its task, fraction and seed. The
    frozen probes depend on no settings: they belong to the cell without a choice.
    """

    task: str
    encoder: str
    fraction: float
    seed: int
    choice: str | None = None

    def folder(self, out: Path) -> Path:
        """Where its files go."""
        row = out / "cells" / self.task / self.encoder / f"{self.fraction:.4g}" / str(self.seed)
        return row / self.choice if self.choice else row

    def __str__(self) -> str:
        words = [self.task, self.encoder, f"{self.fraction:.0%} of labels", f"seed {self.seed}"]
        return ", ".join([*words, self.choice] if self.choice else words)


def load_plan(file: Path, out: Path) -> StudyPlan:
    """Read a study file; relative paths in it are relative to the file. out: where encoders of recipes will be.

    Raises:
        UsageError: if it is not there, no YAML, or names something unknown.
    """
    try:
        values = read_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{file} is no YAML of a study: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no study: write stores, tasks and encoders")
    known = [entry.name for entry in fields(StudyPlan) if entry.name != "recipes"]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            raise UsageError(f"{file}: unknown key {key!r}: {f'did you mean {near[0]}?' if near else ', '.join(known)}")
    for key, kind in (("stores", list), ("tasks", Mapping | list), ("encoders", Mapping)):
        if not isinstance(values.get(key), kind):
            raise UsageError(f"{file}: {key} is missing or of the wrong form: see scoutview study --help")
    try:
        return _plan(file, out, values)
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is of the wrong form ({error}): see scoutview study --help") from error


def _plan(file: Path, out: Path, values: Mapping[str, Any]) -> StudyPlan:
    tasks = values["tasks"] if isinstance(values["tasks"], Mapping) else {name: [name] for name in values["tasks"]}
    content = {
        **values,
        "stores": tuple(_beside(file, path) for path in values["stores"]),
        "tasks": {name: read_task(file, name, value) for name, value in tasks.items()},
        "encoders": {
            name: str(out / "pretraining" / name) if isinstance(value, Mapping) else _beside(file, value)
            for name, value in values["encoders"].items()
        },
        "recipes": {
            name: _recipe(file, name, value) for name, value in values["encoders"].items() if isinstance(value, Mapping)
        },
        "fractions": tuple(float(value) for value in values.get("fractions", StudyPlan.fractions)),
        "input_size": tuple(size) if isinstance(size := values.get("input_size"), list) else size,
        "search": _search(file, values.get("search", {})),
        "robustness": _robustness(file, values.get("robustness")),
        "compare": _compared(file, values.get("compare", "all")),
    }
    return StudyPlan(**content)


def _recipe(file: Path, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a pretraining; a recipe or initial encoder beside the study file is found there."""
    barred = sorted({"stores", "out", "changed_store", "stop_after", "profile"} & set(values))
    if barred:
        raise UsageError(f"{file}: encoder {name}: {barred[0]} cannot be set: the study says where and on what")
    beside = {key: _beside(file, values[key]) for key in ("recipe", "init") if key in values}
    return {**values, **{key: path for key, path in beside.items() if Path(path).exists()}}


def _search(file: Path, values: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(values, Mapping) or not all(isinstance(each, list) for each in values.values()):
        raise UsageError(
            f"{file}: search must name settings with a list of values each: learning_rate: [0.0005, 0.002]"
        )
    return {name: tuple(each) for name, each in values.items()}


def _robustness(file: Path, values: Any) -> Robustness | None:
    if values is None:
        return None
    known = [entry.name for entry in fields(Robustness)]
    if not isinstance(values, Mapping) or not all(key in known and type(each) is int for key, each in values.items()):
        raise UsageError(
            f"{file}: robustness must give whole numbers of {' and '.join(known)}: {{cases: 50, transforms: 50}}"
        )
    return Robustness(**values)


def _compared(file: Path, values: Any) -> Any:
    if values == "all":
        return values
    if not isinstance(values, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in values):
        raise UsageError(f"{file}: compare must be all, or a list of pairs of encoders: [[ours, simclr]]")
    return tuple((str(one), str(other)) for one, other in values)


def _word(value: Any) -> str:
    """A value as part of the name of a folder."""
    return "-".join(_word(each) for each in value) if isinstance(value, list | tuple) else str(value)


def _is_size(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) == 3 and all(type(side) is int and side > 0 for side in value)
    return value is None or (type(value) is int and value >= 32)


def _beside(file: Path, path: str) -> str:
    return str(file.parent / path)
