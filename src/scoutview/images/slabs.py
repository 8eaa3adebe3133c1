"""Large arrays a part at a time, so that what is computed on the way to a result takes a few MB, not several images."""

from __future__ import annotations

from collections.abc import Iterator

SLAB = 2**21
"""Values in a slab; an image of usual size is one or two."""


def row_slabs(rows: int, columns: int) -> Iterator[slice]:
    """Slices of whole rows that hold about `SLAB` values and cover an array [row, column]."""
    step = max(1, SLAB // max(1, columns))
    for begin in range(0, rows, step):
        yield slice(begin, min(begin + step, rows))
