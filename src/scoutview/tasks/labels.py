"""Labels of the archive as target columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive
from scoutview.errors import UsageError

POSITIVE, NEGATIVE = "1", "0"


@dataclass(frozen=True)
class Targets:
    """Targets of a classification.

    classes: names of the columns. exclusive: one class per image (cross-entropy), else independent findings
    (binary cross-entropy). indices [image] into the archive; values [image, class] in {0, 1}, NaN where unknown.
    """

    classes: tuple[str, ...]
    exclusive: bool
    indices: tuple[int, ...]
    values: npt.NDArray[np.float32]


def class_targets(
    archive: Archive, names: Sequence[str], splits: Sequence[str], classes: Sequence[str] | None = None
) -> Targets:
    """Targets of the images of `splits` that have at least one of the labels.

    One name whose values are 0 and 1 is a finding; one name with other values is one of several exclusive classes;
    several names are findings, each known or not per image. classes: those of a trained model, which then hold.

    Raises:
        UsageError: if a label is missing, has a single value, or values that are neither 0 nor 1 among several.
    """
    if not names:
        raise UsageError("no label was named: give --label NAME, or several names for several findings")
    known = {name: archive.labelled(name) for name in names}
    if len(names) == 1:
        values = sorted(set(archive.label_values(names[0], known[names[0]])))
        if len(values) < 2:
            raise UsageError(f"label {names[0]!r} has the single value {values[0]!r}: there is nothing to tell apart")
        if values != [NEGATIVE, POSITIVE]:
            return _exclusive(archive, names[0], splits, tuple(classes or values))
    return _findings(archive, names, splits)


def _exclusive(archive: Archive, name: str, splits: Sequence[str], classes: tuple[str, ...]) -> Targets:
    indices = archive.labelled(name, splits)
    values = archive.label_values(name, indices)
    unknown = sorted(set(values) - set(classes))
    if unknown:
        raise UsageError(f"label {name!r} has the value {unknown[0]!r}, the model knows {', '.join(classes)}")
    columns = np.array([[float(value == each) for each in classes] for value in values], dtype=np.float32)
    return Targets(classes, True, tuple(indices), columns.reshape(len(indices), len(classes)))


def _findings(archive: Archive, names: Sequence[str], splits: Sequence[str]) -> Targets:
    number = {POSITIVE: 1.0, NEGATIVE: 0.0}
    for name in names:
        odd = sorted(set(archive.labels[name].values()) - set(number))
        if odd:
            raise UsageError(f"label {name!r} has the value {odd[0]!r}: several findings need 0 and 1")
    indices = sorted({index for name in names for index in archive.labelled(name, splits)})
    values = [
        [number.get(archive.labels[name].get(archive.rows[index].image, ""), np.nan) for name in names]
        for index in indices
    ]
    columns = np.array(values, dtype=np.float32).reshape(len(indices), len(names))
    return Targets(tuple(names), False, tuple(indices), columns)
