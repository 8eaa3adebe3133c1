"""The images of an archive as stretches of store indexes, and their catalog rows, read shard by shard when needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from scoutview.batches.selection import Numbers
from scoutview.store import ImageRow, Store, StoreIndex, read_catalog_file, rows_of


@dataclass(frozen=True)
class Segment:
    """Images of one modality in one store: first, ..., last - 1 of its index, or of these only the ascending `kept`."""

    modality: str
    store: int
    index: StoreIndex
    first: int
    last: int
    kept: Numbers | None = None

    def __len__(self) -> int:
        return self.last - self.first if self.kept is None else len(self.kept)

    def number(self, place: int) -> int:
        """Number in the store's index of the segment's image `place`."""
        return self.first + place if self.kept is None else int(self.kept[place])

    def numbers(self, places: Numbers) -> Numbers:
        """`number` of several."""
        return places + self.first if self.kept is None else self.kept[places]

    def column(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The segment's part of a column of the index; still mapped when all of it is kept."""
        return values[self.first : self.last] if self.kept is None else values[self.kept]

    def without_copies_of(self, others: Sequence[Segment], stores: Sequence[Store]) -> Segment:
        """Without the images that earlier segments have, too."""
        if not others:
            return self
        mine = self.column(self.index.image)
        suspects = np.flatnonzero(np.isin(mine, np.concatenate([part.column(part.index.image) for part in others])))
        if not len(suspects):
            return self
        # Equal hashes are equal ids but for one chance in many millions, which reading the ids rules out.
        known = {
            row.image
            for part in others
            for row in Rows(stores, (replace(part, kept=part.numbers(_members(part, mine[suspects]))),))
        }
        rows = Rows(stores, (replace(self, kept=self.numbers(suspects)),))
        copies = suspects[[row.image in known for row in rows]]
        return replace(self, kept=self.numbers(np.delete(np.arange(len(self)), copies)))


def _members(segment: Segment, hashes: npt.NDArray[np.uint64]) -> Numbers:
    return np.flatnonzero(np.isin(segment.column(segment.index.image), hashes))


class Rows(Sequence[ImageRow]):
    """The catalog rows of an archive's images, as a sequence that holds the rows of a few shards."""

    def __init__(self, stores: Sequence[Store], segments: Sequence[Segment]) -> None:
        self.stores, self.segments = stores, segments

    @cached_property
    def _starts(self) -> Numbers:
        return np.cumsum([0, *(len(segment) for segment in self.segments)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> ImageRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageRow]: ...

    def __getitem__(self, index: int | slice) -> ImageRow | list[ImageRow]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        segment = self.segments[number]
        return self._row(segment, segment.number(index - int(self._starts[number])))

    def __iter__(self) -> Iterator[ImageRow]:
        for segment in self.segments:
            for place in range(len(segment)):
                yield self._row(segment, segment.number(place))

    def _row(self, segment: Segment, number: int) -> ImageRow:
        row = segment.index.row(number)
        return rows_of_shard(catalog_file(self.stores[segment.store], segment.modality, row.shard))[row.place]


def catalog_file(store: Store, modality: str, shard: str) -> Path:
    """Where the rows of a shard lie."""
    return store.path / "catalog" / modality / f"{shard.removesuffix('.tar')}.parquet"


@lru_cache(maxsize=32)
def rows_of_shard(file: Path) -> list[ImageRow]:
    """The rows of a catalog file, in the order of the shard; of a few files they are kept.

    Raises:
        RunError: if it is damaged.
    """
    return rows_of(read_catalog_file(file))
