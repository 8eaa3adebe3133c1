"""Images that look alike: candidates by their difference hash, then checked by the correlation of small copies.

A hash of 64 bits alone is not enough: of 744 chest radiographs 665 pairs of different patients are within 4 bits,
and not one of them passes the check, while copies that were halved, saved as JPEG of quality 40 or had their gamma
changed all do (docs/results/near-duplicates.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scoutview.images.hashes import small_copy
from scoutview.store.catalog import ImageRow
from scoutview.store.codec import LEVELS
from scoutview.store.reading import Store

MOST_BITS = 6
LEAST_CORRELATION = 0.98
_BLOCK = 1024
_SHORT_SIDE = 64
"""px; small copies are made from the smallest stored resolution that keeps this."""


@dataclass(frozen=True)
class NearPair:
    """Two images that look alike. bits: of 64 in which their hashes differ; correlation: of their small copies."""

    first: ImageRow
    second: ImageRow
    bits: int
    correlation: float


@dataclass(frozen=True)
class Lookalikes:
    """The images of a store by modality, to be searched; small copies are read when first needed, and kept."""

    store: Store
    rows: dict[str, list[ImageRow]]
    hashes: dict[str, npt.NDArray[np.uint64]]
    copies: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, rows: Sequence[ImageRow]) -> Lookalikes:
        """Index rows of a store."""
        by_modality: dict[str, list[ImageRow]] = {}
        for row in rows:
            by_modality.setdefault(row.modality, []).append(row)
        hashes = {
            modality: np.array([int(row.difference_hash, 16) for row in known], dtype=np.uint64)
            for modality, known in by_modality.items()
        }
        return cls(store, by_modality, hashes)

    def like(self, modality: str, difference_hash: str, copy: npt.NDArray[np.float64]) -> ImageRow | None:
        """An image that looks like the one with this hash and small copy, or None."""
        if modality not in self.rows:
            return None
        distances = np.bitwise_count(self.hashes[modality] ^ np.uint64(int(difference_hash, 16)))
        for place in np.flatnonzero(distances <= MOST_BITS):
            row = self.rows[modality][place]
            if float(self.copy_of(row) @ copy) >= LEAST_CORRELATION:
                return row
        return None

    def pairs(self) -> Iterator[NearPair]:
        """Every two images of one modality that look alike, but for those of one series or with equal pixels."""
        for modality, rows in self.rows.items():
            hashes = self.hashes[modality]
            for begin in range(0, len(rows), _BLOCK):
                distances = np.bitwise_count(hashes[begin : begin + _BLOCK, None] ^ hashes[None, begin:])
                for first, second in np.argwhere(distances <= MOST_BITS):
                    if second > first:
                        pair = self._pair(rows[begin + first], rows[begin + second], int(distances[first, second]))
                        if pair is not None:
                            yield pair

    def _pair(self, first: ImageRow, second: ImageRow, bits: int) -> NearPair | None:
        if (first.series and first.series == second.series) or first.pixel_sha256 == second.pixel_sha256:
            return None
        correlation = float(self.copy_of(first) @ self.copy_of(second))
        return NearPair(first, second, bits, correlation) if correlation >= LEAST_CORRELATION else None

    def copy_of(self, row: ImageRow) -> npt.NDArray[np.float64]:
        """The small copy of a stored image."""
        if row.image not in self.copies:
            self.copies[row.image] = small_copy(self.store.read(row, level_for(row)))
        return self.copies[row.image]


def level_for(row: ImageRow) -> int:
    """The resolution level that is enough for a small copy."""
    side = min(row.rows, row.columns)
    return next((level for level in range(LEVELS, 0, -1) if side >> level >= _SHORT_SIDE), 0)
