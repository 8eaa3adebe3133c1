"""The volumes among the selected images of an archive: listed by their stack, read in slabs or as a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from scoutview.batches.archive import Archive
from scoutview.batches.rows import Segment, catalog_file, rows_of_shard
from scoutview.batches.selection import Numbers, Selection
from scoutview.preprocessing import (
    HEAD_SHAPE,
    Calibration,
    FindBox,
    HeadVolume,
    NoBrainError,
    Preprocessing,
    brain_box,
    head_volume,
    preprocess,
)
from scoutview.store import ImageRow, Store, Volume, read_catalog_file, read_volume, volumes_of

LARGEST_HEAD = 2**28
"""Voxels; a head of more is not read as a whole. 512 x 512 x 1024 are as many."""
_CHUNK = 2**20
_PLACE = np.dtype([("segment", "<u2"), ("shard", "<u4"), ("first", "<u4"), ("slices", "<u4")])


@dataclass(frozen=True)
class Volumes(Sequence[Volume]):
    """Volumes of which every slice was selected, in the order of the archive's stores and shards; 14 bytes each.

    places: which segment of the archive, which shard of its index, the first slice there, how many slices.
    incomplete, uneven: volumes that were left out because a slice is not selected, or because slices are missing
    (`--gaps allow`), so that they have no grid.
    """

    archive: Archive
    places: npt.NDArray[np.void]
    incomplete: int
    uneven: int

    @classmethod
    def of(cls, archive: Archive, selection: Selection) -> Volumes:
        """The volumes of a modality's selected images (see `Archive.select`); reads a catalog file per shard.

        Raises:
            RunError: if a catalog file is damaged.
        """
        found: list[npt.NDArray[np.void]] = [np.zeros(0, dtype=_PLACE)]
        left = {"incomplete": 0, "uneven": 0}
        for number, segment in enumerate(archive.segments):
            shards, places = _selected(archive, number, selection)
            for shard in np.unique(shards):
                store, name = archive.stores[segment.store], _name(segment, int(shard))
                found.append(_in_shard(store, segment, name, places[shards == shard], left))
                found[-1]["segment"], found[-1]["shard"] = number, shard
        return cls(archive, np.concatenate(found), left["incomplete"], left["uneven"])

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Volume: ...
    @overload
    def __getitem__(self, index: slice) -> list[Volume]: ...

    def __getitem__(self, index: int | slice) -> Volume | list[Volume]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        place: Any = self.places[index]
        segment = self.archive.segments[int(place["segment"])]
        file = catalog_file(self.store(index), segment.modality, _name(segment, int(place["shard"])))
        first = int(place["first"])
        return volumes_of(rows_of_shard(file)[first : first + int(place["slices"])])[0]

    def __iter__(self) -> Iterator[Volume]:
        return (self[index] for index in range(len(self)))

    def store(self, index: int) -> Store:
        """The store that holds volume `index`."""
        return self.archive.stores[self.archive.segments[int(self.places[index]["segment"])].store]


def _name(segment: Segment, shard: int) -> str:
    name: str = segment.index.shards[shard].decode()
    return name


def _selected(archive: Archive, number: int, selection: Selection) -> tuple[Numbers, Numbers]:
    """(number of the shard, place in it) of the selected images of a segment."""
    segment, start, end = archive.segments[number], int(archive.starts[number]), int(archive.starts[number + 1])
    shards, places = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for begin in range(0, len(selection), _CHUNK):
        indices = selection.indices(begin, min(begin + _CHUNK, len(selection)))
        mine = segment.numbers(indices[(indices >= start) & (indices < end)] - start)
        if len(mine):
            shards.append(segment.index.records["shard"][mine].astype(np.int64))
            places.append(segment.index.records["place"][mine].astype(np.int64))
    return np.concatenate(shards), np.concatenate(places)


def _in_shard(
    store: Store, segment: Segment, shard: str, selected: Numbers, left: dict[str, int]
) -> npt.NDArray[np.void]:
    """The volumes of a shard, by first slice and slices; counts in `left` what is left out."""
    table = read_catalog_file(catalog_file(store, segment.modality, shard))
    stacks = table.column("stack").combine_chunks().dictionary_encode()
    names, numbers = stacks.dictionary.to_pylist(), stacks.indices.to_numpy()
    gaps = pc.match_substring_regex(table.column("flags"), r"\bgap\b").to_numpy()
    chosen = np.zeros(table.num_rows, dtype=np.bool_)
    chosen[selected] = True
    # The slices of a volume lie one after the other.
    edges = np.flatnonzero(np.diff(numbers, prepend=-1))
    lengths = np.diff(edges, append=len(numbers))
    kept = []
    for first, length in zip(edges.tolist(), lengths.tolist(), strict=True):
        part = slice(first, first + length)
        if not names[numbers[first]] or not chosen[part].any():
            continue
        if not chosen[part].all():
            left["incomplete"] += 1
        elif gaps[part].any():
            left["uneven"] += 1
        else:
            kept.append((0, 0, first, length))
    return np.array(kept, dtype=_PLACE)


def read_slab(
    store: Store, volume: Volume, preprocessing: Preprocessing, first: int = 0, last: int | None = None
) -> npt.NDArray[np.float32]:
    """Slices first, ..., last - 1 (all by default) of a volume as float32 [slice, row, column] in [0, 1], in one read.

    CT in HU goes through the curve of `preprocessing`, as single images do. Otherwise one range serves the whole
    volume, from the lowest 0.5% percentile of a slice to the highest 99.5%, so that slices keep their brightness among
    each other and a slab is a part of the volume. Takes the memory of the result, of its codestreams, and of one slice.

    Raises:
        ValueError: if there are no such slices.
        DamagedRecordError: if the bytes are not those that were written.
    """
    last = len(volume.rows) if last is None else last
    if not 0 <= first < last <= len(volume.rows):
        raise ValueError(f"slices {first} to {last} are none of a volume of {len(volume.rows)}")
    rows = volume.rows[first:last]
    result = np.empty((len(rows), *volume.shape[1:]), dtype=np.float32)
    bounds = _bounds(volume)
    for place, (row, pixels) in enumerate(zip(rows, store.read_run(rows), strict=True)):
        result[place] = preprocess(pixels, _calibration(row, bounds), preprocessing)
    return result


def _bounds(volume: Volume) -> tuple[float, float, float, float]:
    """Least and greatest of the percentiles and of the extremes of all slices, in physical units."""
    values = np.array([(row.low, row.high, row.minimum, row.maximum) for row in volume.rows])
    slope = np.array([row.slope for row in volume.rows])[:, None]
    values = values * slope + np.array([row.offset for row in volume.rows])[:, None]
    inner, outer = values[:, :2], values[:, 2:]
    return float(inner.min()), float(inner.max()), float(outer.min()), float(outer.max())


def _calibration(row: ImageRow, bounds: tuple[float, float, float, float]) -> Calibration:
    """That of a slice, with the range of its volume in the slice's own stored values."""
    low, high, minimum, maximum = ((bound - row.offset) / row.slope for bound in bounds)
    if row.slope < 0:  # then the higher stored value is shown brighter, as in single images
        low, high, minimum, maximum = high, low, maximum, minimum
    return Calibration(row.modality, row.slope, row.offset, row.units, minimum, low, high, maximum)


def read_head(
    store: Store, volume: Volume, shape: tuple[int, int, int] = HEAD_SHAPE, find_box: FindBox = brain_box
) -> HeadVolume:
    """A head CT as `head_volume` makes it.

    Raises:
        NoBrainError: if it is no CT in HU with a place in space, is larger than any head, or shows no brain.
        DamagedRecordError: if the bytes are not those that were written.
    """
    affine, row = volume.affine(), volume.rows[0]
    name = f"volume {volume.stack}"
    if affine is None or not volume.even or row.modality != "ct" or row.units != "HU":
        raise NoBrainError(f"{name} is no evenly spaced CT in HU whose place in space is known: leave it out")
    if np.prod(volume.shape, dtype=np.float64) > LARGEST_HEAD:
        size = " x ".join(str(side) for side in volume.shape)
        raise NoBrainError(f"{name} has {size} voxels: that is no scan of a head, leave it out")
    try:
        return head_volume(read_volume(store, volume), affine, find_box, shape)
    except ValueError as error:
        raise NoBrainError(f"{name}: {error}; leave it out") from error
    except NoBrainError as error:
        raise NoBrainError(f"{name}: {error}") from error
