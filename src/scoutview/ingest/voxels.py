"""The voxels of a file, read a part at a time: memory is that of a few slices, whatever the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from scoutview.images.types import LARGEST_AREA
from scoutview.ingest.limits import check_inflated
from scoutview.ingest.refusals import RefusedError

BLOCK = 2**25
"""Bytes that are read at once, or one plane where that is more."""

FARTHEST = 1e6
"""mm."""


@dataclass(frozen=True)
class Voxels:
    """[x, y, z, volume] in an open file, x fastest; what opened it closes `stream`.

    begin: bytes before the first value. shape: (x, y, z). dtype: with its byte order. Physical value = value * slope
    + offset, slope > 0 or < 0. affine: 4 x 4, from (x, y, z, 1) to right, anterior, superior in mm (RAS).
    """

    stream: IO[bytes]
    begin: int
    shape: tuple[int, int, int]
    count: int
    dtype: np.dtype[Any]
    slope: float
    offset: float
    affine: npt.NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Bytes of the values of all volumes."""
        return int(np.prod(self.shape, dtype=object)) * self.count * self.dtype.itemsize

    def volume(self, number: int) -> Voxels:
        """One volume of several."""
        begin = self.begin + number * (self.nbytes // self.count)
        return replace(self, begin=begin, count=1)

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """[x, y, some z] of the first volume, one after the other; negated where the slope is negative.

        Raises:
            RefusedError: truncated or unreadable.
        """
        step = max(1, BLOCK // (self.shape[0] * self.shape[1] * self.dtype.itemsize))
        for first in range(0, self.shape[2], step):
            yield self._planes(first, min(first + step, self.shape[2]))

    def part(self, axis: int, first: int, last: int) -> npt.NDArray[Any]:
        """[x, y, z] of the first volume with only first, ..., last - 1 along `axis`; negated as `blocks`.

        Raises:
            RefusedError: truncated or unreadable.
        """
        if axis == 2:
            return self._planes(first, last)
        # The bytes of a part across another axis are spread over the whole volume.
        found = None
        place = 0
        for block in self.blocks():
            taken = block[first:last] if axis == 0 else block[:, first:last]
            if found is None:
                found = np.empty((*taken.shape[:2], self.shape[2]), taken.dtype, order="F")
            found[..., place : place + taken.shape[2]] = taken
            place += taken.shape[2]
        assert found is not None
        return found

    def _planes(self, first: int, last: int) -> npt.NDArray[Any]:
        plane = self.shape[0] * self.shape[1] * self.dtype.itemsize
        try:
            self.stream.seek(self.begin + first * plane)
            data = self.stream.read((last - first) * plane)
        except OSError as error:
            raise RefusedError("unreadable", "the file cannot be read") from error
        if len(data) < (last - first) * plane:
            raise RefusedError("truncated", "fewer voxels than the header says")
        values = np.frombuffer(data, self.dtype).reshape((*self.shape[:2], last - first), order="F")
        if self.slope < 0:
            wide = values.dtype.kind == "f" or values.dtype == np.uint64
            return -values.astype(np.float64 if wide else np.int64)
        return values


def check_shape(sizes: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[tuple[int, int, int], int]:
    """((x, y, z), number of volumes) of an array of two to four dimensions, before anything of it is read.

    Raises:
        RefusedError: four_dimensional for more, bits for other values than real numbers, bad_header, too_large.
    """
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if dtype.kind not in "iuf":
        raise RefusedError("bits", f"values of type {dtype}")
    if len(sizes) > 4:
        raise RefusedError("four_dimensional", f"{len(sizes)} dimensions")
    if len(sizes) < 2 or min(sizes) < 1:
        raise RefusedError("bad_header", "fewer than two dimensions, or one without any extent")
    x, y, z, count = (*sizes, 1, 1)[:4]
    check_inflated(x * y * z * count * dtype.itemsize)
    if x * y > LARGEST_AREA:
        raise RefusedError("too_large", f"a plane of {x} x {y} px, at most 2^25 are taken")
    return (x, y, z), count


def check_affine(affine: npt.NDArray[np.float64]) -> None:
    """Refuse an affine that does not give every axis a direction of its own, or leads out of every scanner.

    Raises:
        RefusedError: bad_header.
    """
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise RefusedError("bad_header", "the affine is singular")
    if np.abs(affine).max() > FARTHEST:
        raise RefusedError("bad_header", "the affine holds lengths of more than a kilometre")
