"""Labels of the archive as target columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from scoutview.batches import Cases
from scoutview.errors import UsageError

POSITIVE, NEGATIVE = "1", "0"


@dataclass(frozen=True)
class Targets:
    """Targets of a classification.

    classes: names of the columns. exclusive: one class per image or volume (cross-entropy), else independent
    findings (binary cross-entropy). indices [image] into the archive, or into its volumes; values [image, class] in
    {0, 1}, NaN where unknown.
    """

    classes: tuple[str, ...]
    exclusive: bool
    indices: tuple[int, ...]
    values: npt.NDArray[np.float32]

    def part(self, places: Sequence[int]) -> Self:
        """Some of the images or volumes."""
        return replace(self, indices=tuple(self.indices[place] for place in places), values=self.values[list(places)])


def class_targets(
    cases: Cases, names: Sequence[str], splits: Sequence[str], classes: Sequence[str] | None = None
) -> Targets:
    """Targets of the images or volumes of `splits` that have at least one of the labels.

    One name whose values are 0 and 1 is a finding; one name with other values is one of several exclusive classes;
    several names are findings, each known or not per image. classes: those of a trained model, which then hold.

    Raises:
        UsageError: if a label is missing, has a single value, or values that are neither 0 nor 1 among several.
    """
    if not names:
        raise UsageError("no label was named: give --label NAME, or several names for several findings")
    known = {name: cases.labelled(name) for name in names}
    if len(names) == 1:
        values = sorted(set(cases.label_values(names[0], known[names[0]])))
        if not values:
            raise UsageError(f"no {cases.unit} has a label {names[0]!r}: label series, or every slice of a volume")
        if len(values) < 2:
            raise UsageError(f"label {names[0]!r} has the single value {values[0]!r}: there is nothing to tell apart")
        if values != [NEGATIVE, POSITIVE]:
            return _exclusive(cases, names[0], splits, tuple(classes or values))
    return _findings(cases, names, splits)


def _exclusive(cases: Cases, name: str, splits: Sequence[str], classes: tuple[str, ...]) -> Targets:
    indices = cases.labelled(name, splits)
    values = cases.label_values(name, indices)
    unknown = sorted(set(values) - set(classes))
    if unknown:
        raise UsageError(f"label {name!r} has the value {unknown[0]!r}, the model knows {', '.join(classes)}")
    columns = np.array([[float(value == each) for each in classes] for value in values], dtype=np.float32)
    return Targets(classes, True, tuple(indices), columns.reshape(len(indices), len(classes)))


def _findings(cases: Cases, names: Sequence[str], splits: Sequence[str]) -> Targets:
    number = {POSITIVE: 1.0, NEGATIVE: 0.0}
    for name in names:
        odd = sorted(set(cases.label_values(name, cases.labelled(name))) - set(number))
        if odd:
            raise UsageError(f"label {name!r} has the value {odd[0]!r}: several findings need 0 and 1")
    known = {name: cases.labelled(name, splits) for name in names}
    indices = sorted({index for found in known.values() for index in found})
    columns = np.full((len(indices), len(names)), np.nan, dtype=np.float32)
    for column, (name, found) in enumerate(known.items()):
        columns[np.searchsorted(indices, found), column] = [number[value] for value in cases.label_values(name, found)]
    return Targets(tuple(names), False, tuple(indices), columns)
