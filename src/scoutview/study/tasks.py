"""The tasks of a study as its grid knows them: cases of three splits, and a training on some of the labelled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive, Cases, LabelledVolumes
from scoutview.encoders import Encoder
from scoutview.metrics import ClassBoxes
from scoutview.tasks import Targets, Task
from scoutview.tasks.frozen import RAW_SIZE, RAW_VOLUME
from scoutview.tasks.hemorrhage import hemorrhage_inputs
from scoutview.tasks.inputs import Inputs, VolumeInputs, cases_for, inputs_for

Scores = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Part:
    """The cases of a split: patients [case]; values [case, class] in {0, 1}, NaN where unknown."""

    patients: npt.NDArray[np.str_]
    values: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Training:
    """A task for the loop of `finetune_task`.

    test: what its model then says of the test cases: the scores [case, class], and of a detection the boxes.
    """

    task: Task
    test: Callable[[], tuple[Scores, ClassBoxes | None]]


@dataclass(frozen=True)
class StudyTask:
    """A task of a study.

    unit: what a test case is. classes: names of the columns. parts: split -> cases; those of train may be labelled.
    training: from an encoder, places among these, settings and the folder of what its encoders share. stage1: trains
    what they share into that folder, where there is such. probed: split -> targets, of tasks whose frozen features are
    probed. truths: boxes and known [image, class] of the test images, of a detection.
    """

    unit: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    training: Callable[[Encoder, Sequence[int], Any, Path], Training]
    stage1: Callable[[Sequence[int], Any, Path], None] | None = None
    probed: Mapping[str, Targets] = field(default_factory=dict)
    truths: tuple[ClassBoxes, npt.NDArray[np.bool_]] | None = None

    @cached_property
    def stratum(self) -> npt.NDArray[np.int64]:
        """The number of each training case's combination of classes."""
        known = np.nan_to_num(self.parts["train"].values, nan=-1.0)
        return np.unique(known, axis=0, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class Sources:
    """An archive as an encoder is shown it, each image or volume read once for all tasks."""

    archive: Archive
    encoder: Encoder

    @cached_property
    def cases(self) -> Cases:
        """Images, or volumes."""
        return cases_for(self.encoder, self.archive)

    @cached_property
    def inputs(self) -> Inputs:
        """At the encoder's size."""
        return inputs_for(self.encoder, self.cases)

    @cached_property
    def raw(self) -> Inputs:
        """Small, to be features themselves."""
        size = RAW_SIZE if self.encoder.network.spatial_dims == 2 else RAW_VOLUME
        return inputs_for(replace(self.encoder, input_size=size), self.cases)

    @cached_property
    def heads(self) -> tuple[LabelledVolumes, VolumeInputs]:
        """Volumes as the haemorrhage task reads them."""
        return hemorrhage_inputs(self.archive, self.encoder)
