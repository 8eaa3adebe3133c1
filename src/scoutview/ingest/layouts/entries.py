"""What a label file says, before it is known which image of the store is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Split = Literal["", "train", "validation", "test", "train_validation"]


@dataclass(frozen=True)
class Box:
    """A finding in px: x, y of the top left corner of its first pixel, width, height."""

    name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Mask:
    """The pixels of a finding, bitmap [row, column]; `x` and `y` say where its first pixel lies in the image.

    whole: the bitmap has the size of the image, and is refused for an image of another size.
    """

    name: str
    bitmap: npt.NDArray[np.bool_]
    x: int = 0
    y: int = 0
    whole: bool = True


@dataclass(frozen=True)
class Entry:
    """What one reader says of one image, series or study.

    where: file and row, for messages. id: SOP Instance or Series Instance UID. files: names of the same thing, of
    which the first that the store knows counts; one with a slash is a path below the folder of the label files,
    one without is a file name (its suffix does not matter), "#7" is slice 7 of a volume. about: what of the image
    that is named by them the entry speaks of. patient: used at ingest where the files do not say it. split:
    "train_validation" is an official training part that has no validation part of its own. labels: name -> value;
    a label that is not there is unknown. no_boxes, no_masks: findings that were searched, of which the image has
    none. size: (rows, columns) of the image that the coordinates are about, where the source says it.
    """

    where: str
    files: tuple[str, ...] = ()
    id: str = ""
    about: Literal["image", "series", "study"] = "image"
    patient: str = ""
    split: Split = ""
    reader: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()
    no_boxes: tuple[str, ...] = ()
    no_masks: tuple[str, ...] = ()
    size: tuple[int, int] | None = None

    @property
    def thing(self) -> str:
        """What the entry names, for messages and to tell entries apart."""
        return self.id or (self.files[0] if self.files else "")
