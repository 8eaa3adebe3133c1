"""Which images of a modality take part, as a sequence that is never written out: one bit per candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 4096
"""Candidates between two counts; looking up a place unpacks one or two chunks."""
_SCAN = 2**20

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Joined:
    """Arrays end to end, each with a number that is added to its values; mapped arrays stay on disk."""

    parts: tuple[npt.NDArray[Any], ...]
    added: tuple[int, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[npt.NDArray[Any]], added: Sequence[int]) -> Joined:
        """Join arrays."""
        return cls(tuple(parts), tuple(added), tuple(np.cumsum([0, *map(len, parts)]).tolist()))

    def __len__(self) -> int:
        return self.starts[-1]

    def at(self, places: Numbers) -> Numbers:
        """Values [place]."""
        if len(self.parts) == 1:
            return self.parts[0][places].astype(np.int64) + self.added[0]
        owner = np.searchsorted(self.starts, places, side="right") - 1
        values = np.empty(len(places), dtype=np.int64)
        for number in np.unique(owner):
            mine = owner == number
            values[mine] = self.parts[number][places[mine] - self.starts[number]].astype(np.int64) + self.added[number]
        return values

    def pieces(self, most: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(first place, values) of stretches of at most `most`."""
        for start, part, added in zip(self.starts, self.parts, self.added, strict=False):
            for begin in range(0, len(part), most):
                yield start + begin, part[begin : begin + most].astype(np.int64) + added


@dataclass(frozen=True)
class Selection:
    """The chosen images of a modality, in the order of the archive, in which the images of a series lie together.

    first: archive index of candidate 0. bits: whether each candidate is chosen, 8 to a byte, the first in the highest
    bit. ends: how many are chosen up to the end of each chunk. series: number of the series of each candidate.
    series_count, longest_series: of the chosen images.
    """

    first: int
    bits: npt.NDArray[np.uint8]
    ends: Numbers
    series: Joined
    series_count: int
    longest_series: int

    @classmethod
    def of(cls, chosen: npt.NDArray[np.bool_], series: Joined, first: int = 0) -> Selection:
        """Select the candidates whose flag is set. Numbers of series ascend."""
        edges = np.arange(0, len(chosen), CHUNK)
        ends = np.cumsum(np.add.reduceat(chosen, edges, dtype=np.int64)) if len(chosen) else np.zeros(0, np.int64)
        count, longest, last, length = 0, 0, -1, 0
        for start, names in series.pieces(_SCAN):
            names = names[chosen[start : start + len(names)]]
            if not len(names):
                continue
            begins = np.flatnonzero(np.diff(names, prepend=last))
            lengths = np.diff(begins, append=len(names))
            if len(begins) == 0 or begins[0] > 0:
                length += int(begins[0]) if len(begins) else len(names)
                longest = max(longest, length)
            if len(begins):
                count, length = count + len(begins), int(lengths[-1])
                longest = max(longest, int(lengths.max()))
            last = int(names[-1])
        return cls(first, np.packbits(chosen), ends, series, count, longest)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def indices(self, begin: int, end: int) -> Numbers:
        """Archive indices of the chosen images begin, ..., end - 1."""
        if end <= begin:
            return np.zeros(0, dtype=np.int64)
        low, high = (int(chunk) for chunk in np.searchsorted(self.ends, (begin, end - 1), side="right"))
        bits = np.unpackbits(self.bits[low * CHUNK // 8 : (high + 1) * CHUNK // 8])
        before = int(self.ends[low - 1]) if low else 0
        places = np.flatnonzero(bits)[begin - before : end - before]
        found: Numbers = places + (low * CHUNK + self.first)
        return found

    def series_of(self, indices: Numbers) -> Numbers:
        """Number of the series of each image."""
        return self.series.at(indices - self.first)
