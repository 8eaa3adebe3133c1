"""Volumes: the slices of one stack, which lie one after the other in a shard, so that any run of them is one read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scoutview.store.catalog import ImageRow
from scoutview.store.reading import Store


@dataclass(frozen=True)
class Volume:
    """rows: its slices in order. spacing: (slice, row, column) in mm; None when not known.

    even: whether the slices are evenly spaced and none is missing.
    """

    stack: str
    rows: tuple[ImageRow, ...]
    spacing: tuple[float, float, float] | None
    even: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.rows), self.rows[0].rows, self.rows[0].columns

    def affine(self, first: int = 0) -> npt.NDArray[np.float64] | None:
        """4 x 4 matrix from (column, row, slice - first, 1) to patient coordinates in mm (DICOM's LPS)."""
        row = self.rows[first]
        if row.affine is None:
            return None
        return np.vstack([np.reshape(row.affine, (3, 4)), (0.0, 0.0, 0.0, 1.0)])


def single(row: ImageRow) -> ImageRow:
    """The row of an image that is in no volume after all."""
    return replace(row, stack="", slice_spacing=None, affine=None)


def volumes_of(rows: Iterable[ImageRow]) -> list[Volume]:
    """The volumes of a catalog, sorted by their key."""
    found: dict[str, list[ImageRow]] = {}
    for row in rows:
        if row.stack:
            found.setdefault(row.stack, []).append(row)
    return [_volume(stack, found[stack]) for stack in sorted(found)]


def _volume(stack: str, rows: list[ImageRow]) -> Volume:
    ordered = sorted(rows, key=lambda row: row.slice_index or 0)
    first = ordered[0]
    spacing = None
    if first.slice_spacing is not None and first.row_spacing is not None and first.column_spacing is not None:
        spacing = (first.slice_spacing, first.row_spacing, first.column_spacing)
    return Volume(stack, tuple(ordered), spacing, not any("gap" in row.flags.split() for row in ordered))


def read_volume(store: Store, volume: Volume, first: int = 0, last: int | None = None) -> npt.NDArray[np.float32]:
    """Physical values float32 [slice, row, column] of slices first, ..., last - 1 (all by default), in one read.

    Raises:
        DamagedRecordError: if the bytes are not those that were written.
    """
    rows = volume.rows[first:last]
    values = np.empty((len(rows), *volume.shape[1:]), dtype=np.float32)
    for place, (row, pixels) in enumerate(zip(rows, store.read_run(rows), strict=True)):
        values[place] = pixels * np.float64(row.slope) + row.offset
    return values
