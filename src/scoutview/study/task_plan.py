"""What a study file says of one task: its kind, its labels, and the settings that are its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scoutview.errors import UsageError
from scoutview.tasks import SETTINGS, FinetuneSettings

CLASSIFICATION = "classification"
DETECTION = "chest_detection"
HEMORRHAGE = "hemorrhage_volume"
SLICES = "metastasis_slices"

_OF_THE_GRID = {"seed", "stage1"}
"""Settings that the study decides itself."""


@dataclass(frozen=True)
class TaskPlan:
    """A task of a study.

    Attributes:
        labels: as --label of scoutview finetune.
        kind: which of its tasks.
        settings: of the fine-tuning of this task alone; they count before those of the study.
    """

    labels: tuple[str, ...] = ()
    kind: str = CLASSIFICATION
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in SETTINGS:
            raise UsageError(f"study file: unknown task {self.kind!r}: known are {', '.join(SETTINGS)}")
        known = names_of(SETTINGS[self.kind])
        for name in self.settings:
            if name not in known:
                raise UsageError(f"study file: {self.kind} has no setting {name!r}: known are {', '.join(known)}")
        if self.kind == CLASSIFICATION and not self.labels:
            raise UsageError("study file: a classification has no label: name one, or several")
        if self.kind == HEMORRHAGE and self.labels:
            raise UsageError(
                f"study file: {HEMORRHAGE} takes its labels by volume_label, type_labels and slice_label, not by label"
            )
        if self.kind == SLICES and len(self.labels) != 1:
            raise UsageError(f"study file: {SLICES} learns one finding: write label: NAME, the name of its masks")

    @property
    def probed(self) -> bool:
        """Whether frozen features are probed, too: a linear layer on them is what this task learns."""
        return self.kind == CLASSIFICATION

    @property
    def staged(self) -> bool:
        """Whether a first stage is trained once per fraction and seed, and shared by all encoders."""
        return self.kind == SLICES and bool(self.settings.get("mask_channel", True))

    def as_given(self) -> Any:
        """As in a study file; a plain list of labels where that is all."""
        if self.kind == CLASSIFICATION and not self.settings:
            return list(self.labels)
        return {"task": self.kind, **({"label": list(self.labels)} if self.labels else {}), **self.settings}


def read_task(file: Path, name: str, value: Any) -> TaskPlan:
    """A task from its entry in a study file: a label, a list of labels, or a mapping.

    Raises:
        UsageError: if it is of another form, or names something unknown.
    """
    if not isinstance(value, Mapping):
        return TaskPlan(_labels(file, name, value))
    settings = {key: each for key, each in value.items() if key not in ("task", "label")}
    return TaskPlan(_labels(file, name, value.get("label", [])), str(value.get("task", CLASSIFICATION)), settings)


def _labels(file: Path, name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"{file}: the labels of task {name} must be a name, or a list of names")
    return tuple(value)


def names_of(settings: type[FinetuneSettings]) -> list[str]:
    """The settings that a study file may give."""
    return [entry.name for entry in fields(settings) if entry.name not in _OF_THE_GRID]
