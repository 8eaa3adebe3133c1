"""The volumes of an archive with their splits, patients and labels: to a task they are what images are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from scoutview.batches.archive import Archive
from scoutview.batches.volume_loader import VolumeList
from scoutview.errors import UsageError
from scoutview.store import SPLITS, read_annotations, text_hash

FINDING = {"0", "1"}
"""The values of a label that says whether something is there."""


@dataclass(frozen=True)
class LabelledVolumes:
    """The volumes of an archive, numbered as in `volumes`, with what `Archive` has for images.

    A volume is in the split of its first slice. Its labels are those of its slices, where labels of a series count for
    each of its slices: a finding of 0 and 1 is present if it is in a slice, absent if it is in none, and not known if
    none of those that are labelled has it and some are not labelled. Other values must not differ within a volume.
    """

    archive: Archive
    volumes: VolumeList
    unit: ClassVar[str] = "volume"

    @classmethod
    def of(cls, archive: Archive) -> Self:
        """All whole volumes of an archive.

        Raises:
            UsageError: if there is none.
        """
        return cls(archive, VolumeList.of(archive, archive.select()))

    def __len__(self) -> int:
        return int(self.volumes.starts[-1])

    def modality_of(self, index: int) -> str:
        """The modality of volume `index`."""
        return self.volumes.modality_of(index)

    def labelled(self, name: str, splits: Collection[str] = SPLITS) -> list[int]:
        """Numbers of the volumes of the given splits for which label `name` is known.

        Raises:
            UsageError: if nothing has that label, or a volume has several values of one that is no finding.
        """
        wanted = [SPLITS.index(split) for split in splits]
        return [index for index in self._values(name) if self._splits[index] in wanted]

    def label_values(self, name: str, indices: Sequence[int]) -> list[str]:
        """The values of label `name` of volumes that have it."""
        values = self._values(name)
        return [values[index] for index in indices]

    def slice_values(self, name: str, index: int) -> list[str | None]:
        """The values of label `name` of the slices of a volume; only what was said of a slice itself counts."""
        values, said = self.archive.label(name), self._said_of[name]
        images = (row.image for row in self.volumes.place(index)[1].rows)
        return [values.get(image) if image in said else None for image in images]

    def patients(self, indices: Sequence[int]) -> npt.NDArray[np.str_]:
        """Patient keys [volume]."""
        return np.array([self._read[1][index] for index in indices], dtype=np.str_)

    def _values(self, name: str) -> dict[int, str]:
        self.archive.label(name)
        values = self._read[2][name]
        for index, value in values.items():
            if value is None:
                stack = self.volumes.place(index)[1].stack
                raise UsageError(
                    f"label {name!r} has several values among the slices of volume {stack}: label series, or use "
                    "findings of 0 and 1"
                )
        return {index: value for index, value in values.items() if value is not None}

    @cached_property
    def _read(self) -> tuple[list[str], list[str], dict[str, dict[int, str | None]]]:
        """(first image, patient [volume], label -> volume -> value, None where slices disagree), in one pass."""
        labels = self.archive.labels
        findings = {name for name, values in labels.items() if set(values.values()) <= FINDING}
        first, patients = [], []
        found: dict[str, dict[int, str | None]] = {name: {} for name in labels}
        for index in range(len(self)):
            rows = self.volumes.place(index)[1].rows
            first.append(rows[0].image)
            patients.append(rows[0].patient)
            for name, values in labels.items():
                said = [values.get(row.image) for row in rows]
                known = {value for value in said if value is not None}
                if name in findings and "1" in known:
                    found[name][index] = "1"
                elif known and not (name in findings and None in said):
                    found[name][index] = known.pop() if len(known) == 1 else None
        return first, patients, found

    @cached_property
    def _said_of(self) -> dict[str, set[str]]:
        """label -> what statements are about: images, series, studies."""
        said: dict[str, set[str]] = {}
        for store in self.archive.stores:
            for entry in read_annotations(store):
                if entry.kind == "label":
                    said.setdefault(entry.name, set()).add(entry.target)
        return said

    @cached_property
    def _splits(self) -> npt.NDArray[np.uint8]:
        """Number in SPLITS [volume]."""
        wanted = text_hash(self._read[0])
        splits = np.zeros(len(wanted), dtype=np.uint8)
        for segment in self.archive.segments:
            keys = segment.column(segment.index.image)
            order = np.argsort(keys)
            mine = np.flatnonzero(np.isin(wanted, keys))
            places = order[np.searchsorted(keys, wanted[mine], sorter=order)]
            splits[mine] = segment.column(self.archive.splits[segment.store])[places]
        return splits


Cases = Archive | LabelledVolumes
"""What a task learns from: the images of an archive, or its volumes. `unit` names one of them."""
