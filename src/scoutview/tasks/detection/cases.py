"""Which radiographs are cases of a detection, and what is known of them: boxes, none, or nothing.

Of each image and class it is known either where it is (there are boxes), or that it is not there (the image was
searched and none was drawn, or its label of the class's name is 0), or nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive
from scoutview.errors import UsageError
from scoutview.store import Annotation, read_annotations, rows_about
from scoutview.tasks.detection.readers import fuse_annotations
from scoutview.tasks.labels import NEGATIVE

MODALITY = "xray"

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class DetectionCases:
    """Images of which at least one class is known.

    classes: names. indices [image] into the archive; shapes [image]: rows and columns in px; boxes [image]: float64
    [box, 4] in px of the image; numbers [image]: the class of each box, int64 [box]; known [image, class]: whether all
    boxes of the class are there, none of them included.
    """

    classes: tuple[str, ...]
    indices: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    boxes: tuple[npt.NDArray[np.float64], ...]
    numbers: tuple[npt.NDArray[np.int64], ...]
    known: npt.NDArray[np.bool_]

    @property
    def empty(self) -> int:
        """How many images have no box of any class."""
        return sum(not len(boxes) for boxes in self.boxes)

    def part(self, places: Sequence[int]) -> Self:
        """Some of the images."""
        return replace(
            self,
            indices=tuple(self.indices[place] for place in places),
            shapes=tuple(self.shapes[place] for place in places),
            boxes=tuple(self.boxes[place] for place in places),
            numbers=tuple(self.numbers[place] for place in places),
            known=self.known[list(places)],
        )


@dataclass(frozen=True)
class Findings:
    """What an archive says of its radiographs: image id -> class -> corners of its boxes, () where it has none."""

    of: Mapping[str, Mapping[str, Sequence[Corners]]]

    def drawn(self, archive: Archive, splits: Collection[str]) -> tuple[str, ...]:
        """Classes with at least one box in the radiographs of these splits, sorted."""
        images = (archive.rows[index].image for index in self._radiographs(archive, splits))
        return tuple(sorted({name for image in images for name, boxes in self.of[image].items() if boxes}))

    def cases(self, archive: Archive, classes: Sequence[str], splits: Collection[str]) -> DetectionCases:
        """The images of these splits of which at least one of the classes is known.

        Raises:
            UsageError: if a box lies outside of its image.
        """
        indices, shapes, corners, numbers, known = [], [], [], [], []
        for index in self._radiographs(archive, splits):
            row = archive.rows[index]
            said = self.of[row.image]
            if not said.keys() & set(classes):
                continue
            indices.append(index)
            shapes.append((row.rows, row.columns))
            own = [(box, number) for number, name in enumerate(classes) for box in said.get(name, ())]
            corners.append(_within([box for box, _ in own], row.rows, row.columns, row.image))
            numbers.append(np.array([number for _, number in own], dtype=np.int64))
            known.append([name in said for name in classes])
        return DetectionCases(
            tuple(classes),
            tuple(indices),
            tuple(shapes),
            tuple(corners),
            tuple(numbers),
            np.array(known, dtype=np.bool_).reshape(len(indices), len(classes)),
        )

    def _radiographs(self, archive: Archive, splits: Collection[str]) -> list[int]:
        return [index for index in archive.find(self.of, splits) if archive.modality_of(index) == MODALITY]


def read_findings(archive: Archive) -> Findings:
    """Boxes of the images, those of several readers made one, and what is known to be absent.

    What is said of an image by a reader counts before what that reader says of its series, and that before the study.
    """
    found: dict[str, dict[str, Sequence[Corners]]] = {}
    for name, values in archive.labels.items():
        for image, value in values.items():
            if value == NEGATIVE:
                found.setdefault(image, {})[name] = ()
    for store in archive.stores:
        said: dict[str, dict[str, dict[str, list[Annotation]]]] = {}
        for entry in read_annotations(store):
            if entry.kind == "box":
                said.setdefault(entry.target, {}).setdefault(entry.name, {}).setdefault(entry.reader, []).append(entry)
        for row in rows_about(store, said):
            by_name: dict[str, dict[str, list[Annotation]]] = {}
            for target in filter(None, (row.study, row.series, row.image)):
                for name, readers in said.get(target, {}).items():
                    by_name.setdefault(name, {}).update(readers)
            for name, readers in by_name.items():
                about = [replace(entry, target=row.image) for entries in readers.values() for entry in entries]
                boxes = [box.corners for box in fuse_annotations(about)]
                found.setdefault(row.image, {})[name] = boxes
    return Findings(found)


def _within(corners: Sequence[Corners], rows: int, columns: int, image: str) -> npt.NDArray[np.float64]:
    """[box, 4], cut off at the borders: files round, and may leave their image by half a pixel."""
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 4)
    cut = boxes.clip(0.0, np.array([columns, rows] * 2, dtype=np.float64))
    if (cut[:, 2:] <= cut[:, :2]).any():
        raise UsageError(f"image {image} has a box outside of its {columns} x {rows} px: correct it")
    return cut
