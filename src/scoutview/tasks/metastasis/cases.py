"""Which slices of volumes are cases: those of which the store says where a finding is, or that there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive, VolumeList
from scoutview.errors import UsageError
from scoutview.store import Annotation, ImageRow, Store, Volume, bitmap_of, read_annotations, rows_about
from scoutview.tasks.labels import NEGATIVE

Bitmap = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Masks:
    """What an archive says of the pixels of a finding.

    drawn: image id -> for each reader the masks of that reader, which may say that there is none.
    absent: images without masks whose label of that name is 0, by their own label or that of their series or study.
    """

    name: str
    drawn: Mapping[str, Sequence[Sequence[Annotation]]]
    absent: frozenset[str]

    @classmethod
    def read(cls, archive: Archive, name: str) -> Self:
        """The masks of a finding. Of one reader, what is said of an image counts before its series, and that before
        its study.

        Raises:
            UsageError: if there is no mask of that name; the message lists those there are.
        """
        drawn: dict[str, Sequence[Sequence[Annotation]]] = {}
        names: set[str] = set()
        for store in archive.stores:
            said: dict[str, dict[str, list[Annotation]]] = {}
            for entry in read_annotations(store):
                if entry.kind == "mask":
                    names.add(entry.name)
                    if entry.name == name:
                        said.setdefault(entry.target, {}).setdefault(entry.reader, []).append(entry)
            for row in rows_about(store, said):
                readers: dict[str, list[Annotation]] = {}
                for target in filter(None, (row.study, row.series, row.image)):
                    readers.update(said.get(target, {}))
                drawn[row.image] = list(readers.values())
        if not drawn:
            known = ", ".join(sorted(names)) or "none"
            raise UsageError(f"no image has a mask of {name!r} (masks of: {known}): add them with scoutview label")
        labels = archive.labels.get(name, {})
        return cls(name, drawn, frozenset(image for image, value in labels.items() if value == NEGATIVE))

    def bitmap(self, row: ImageRow) -> Bitmap | None:
        """[row, column]: the pixels that more than half of the readers marked; None where nothing is known.

        Raises:
            UsageError: if a mask does not fit its image.
        """
        readers = self.drawn.get(row.image)
        if readers is None:
            return np.zeros((row.rows, row.columns), dtype=np.bool_) if row.image in self.absent else None
        votes = np.zeros((row.rows, row.columns), dtype=np.int64)
        for entries in readers:
            try:
                bitmaps = [bitmap_of(entry, row.rows, row.columns) for entry in entries]
            except ValueError as error:
                raise UsageError(
                    f"the mask of {self.name} of image {row.image} is damaged ({error}): add it again"
                ) from error
            votes += np.logical_or.reduce(bitmaps)
        majority: Bitmap = 2 * votes > len(readers)
        return majority


@dataclass(frozen=True)
class SliceCases:
    """Slices of which the mask is known, of whole volumes of one split.

    volumes: where they lie. volume, place [case]: which volume, and which of its slices. targets [case]: 1 if any pixel
    of the mask is set, else 0. unknown: slices of these volumes of which nothing is known, which are only neighbours.
    left_out: what is said of volumes that do not take part.
    """

    masks: Masks
    volumes: tuple[tuple[Store, Volume], ...]
    volume: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]
    unknown: int
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, archive: Archive, masks: Masks, split: str) -> Self:
        """The slices of a split.

        Raises:
            UsageError: if there is none with the finding, or none known to be without it.
        """
        listed = VolumeList.of(archive, archive.select((split,)))
        volumes: list[tuple[Store, Volume]] = []
        cases: list[tuple[int, int, float]] = []
        unknown = 0
        for number in range(int(listed.starts[-1])):
            store, volume = listed.place(number)
            bitmaps = (masks.bitmap(row) for row in volume.rows)
            found = [(len(volumes), place, float(b.any())) for place, b in enumerate(bitmaps) if b is not None]
            if found:
                volumes.append((store, volume))
                cases += found
                unknown += len(volume.rows) - len(found)
        columns = np.array(cases, dtype=np.float64).reshape(-1, 3).T
        targets = columns[2].astype(np.float32)
        if not targets.any():
            raise UsageError(f"no slice of a volume in split {split} has a mask of {masks.name}: add some")
        if targets.all():
            raise UsageError(
                f"no slice of a volume in split {split} is known to be without {masks.name}: say so by an empty mask, "
                "or by a label 0 of the image, its series or its study (scoutview label)"
            )
        return cls(
            masks,
            tuple(volumes),
            columns[0].astype(np.int64),
            columns[1].astype(np.int64),
            targets,
            unknown,
            tuple(listed.left_out()),
        )

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, places: Sequence[int]) -> Self:
        """Some of the cases; the other slices of their volumes are only neighbours."""
        kept = list(places)
        return replace(self, volume=self.volume[kept], place=self.place[kept], targets=self.targets[kept])

    def row(self, case: int) -> ImageRow:
        """The catalog row of a case."""
        return self.volumes[int(self.volume[case])][1].rows[int(self.place[case])]

    @property
    def patients(self) -> npt.NDArray[np.str_]:
        """Patient keys [case]."""
        return np.array([self.row(case).patient for case in range(len(self))], dtype=np.str_)
