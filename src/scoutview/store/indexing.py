"""Building the index from the merged catalog: one pass in order, and a second one only where series are scattered."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoutview.errors import RunError
from scoutview.files import sync, write_json
from scoutview.store.index import CHECKED, COLUMNS, INDEX_VERSION, RECORD, SPLITS, StoreIndex, bytes_hash, crc_of
from scoutview.store.merging import only_builder
from scoutview.store.reading import Store
from scoutview.store.seal import with_checksum

_DERIVED = {"shard", "place", "units", "spectrum_preprocessing", "checksum"}
_NUMBERS = [name for name in RECORD.names or () if name not in _DERIVED]
_TEXTS = ("units", "spectrum_preprocessing")
_NEEDED = [*_NUMBERS, *_TEXTS, "modality", "shard", "series", "image", "split"]
_CHUNK = 2**18
_NOT_WHOLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def open_index(store: Store) -> StoreIndex:
    """The index of a store, built first when the listing of its catalog has changed.

    Raises:
        RunError: if a catalog file is damaged.
    """
    merged = store.merged_path()
    if merged is None:
        return StoreIndex(store.path, {}, {}, {}, 0)
    folder = merged.with_suffix(".index")
    with suppress(*_NOT_WHOLE):
        return StoreIndex.open(folder)
    merged = store.merged_catalog() or merged
    with only_builder(merged.parent):
        with suppress(*_NOT_WHOLE):
            return StoreIndex.open(folder)
        _build(merged, folder)
    return StoreIndex.open(folder)


@dataclass
class _Progress:
    """What is known while the rows pass by. A run is a stretch of rows of one series.

    runs: (modality, hash of the series, first row) of each.
    """

    texts: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in _TEXTS})
    shards: list[str] = field(default_factory=list)
    runs: list[tuple[npt.NDArray[np.str_], npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = field(default_factory=list)
    rows: int = 0
    in_shard: int = 0
    last: tuple[str, int] = ("", 0)


def _build(merged: Path, folder: Path) -> None:
    """Write the index beside its place, then rename it; the caller holds the lock, so leftovers belong to nobody."""
    building = folder.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    building.mkdir()
    progress = _Progress()
    try:
        with pq.ParquetFile(merged, page_checksum_verification=True) as file:
            files = {name: (building / f"{name}.bin").open("wb") for name in ("records", "image", "split")}
            for group in range(file.num_row_groups):
                for batch in file.read_row_group(group, columns=_NEEDED).to_batches():
                    for name, column in _columns(batch, progress).items():
                        files[name].write(column.tobytes())
            for stream in files.values():
                stream.close()
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{merged} is damaged ({error}): remove it, and it is made again from the catalog") from error
    ranges = _sort_by_series(building, progress)
    width = max(len(name) for name in progress.shards)
    np.array(progress.shards, dtype=f"S{width}").tofile(building / "shards.bin")
    checksums = {
        name: crc_of(np.memmap(building / f"{name}.bin", dtype=kind, mode="r")) for name, kind in COLUMNS.items()
    }
    for path in building.iterdir():
        sync(path)
    content = {
        "version": INDEX_VERSION,
        "ranges": ranges,
        "texts": {name: list(values) for name, values in progress.texts.items()},
        "checksums": {**checksums, "shards": crc_of(np.fromfile(building / "shards.bin", np.uint8))},
        "shard_width": width,
    }
    write_json(building / "index.json", with_checksum(content))
    building.rename(folder)
    sync(folder.parent)


def _columns(batch: pa.RecordBatch, progress: _Progress) -> dict[str, npt.NDArray[Any]]:
    """Records, hashes and splits of some rows; progress goes on behind them."""
    count = batch.num_rows
    records = np.zeros(count, dtype=RECORD)
    for name in _NUMBERS:
        records[name] = batch.column(name).to_numpy(zero_copy_only=False)
    for name in _TEXTS:
        records[name] = _numbers_of(batch.column(name), progress.texts[name])
    records["shard"], records["place"] = _places(batch.column("shard"), progress)
    content = records.view(np.uint8).reshape(count, RECORD.itemsize)
    records["checksum"] = [zlib.crc32(line) for line in np.ascontiguousarray(content[:, :CHECKED])]
    known = {name: number for number, name in enumerate(SPLITS)}
    split = _numbers_of(batch.column("split"), known)
    if len(known) > len(SPLITS):
        raise RunError(
            f"the catalog has a split {list(known)[-1]!r} beside {', '.join(SPLITS)}: "
            "scoutview fsck names what is damaged"
        )
    image = batch.column("image")
    series = pc.if_else(pc.equal(batch.column("series"), ""), image, batch.column("series"))
    _find_runs(batch.column("modality"), _hashes(series), progress)
    progress.rows += count
    return {"records": records, "image": _hashes(image), "split": split.astype(np.uint8)}


def _numbers_of(column: pa.Array, known: dict[str, int]) -> npt.NDArray[np.int64]:
    """The number of each text; texts that are not known yet get the next ones."""
    encoded = column.dictionary_encode()
    numbers = [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()]
    found: npt.NDArray[np.int64] = np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy()]
    return found


def _places(column: pa.Array, progress: _Progress) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(number of the shard, place in it) of each row; the rows of a shard lie together, maybe over two batches."""
    ends = column.run_end_encode() if hasattr(column, "run_end_encode") else pc.run_end_encode(column)
    numbers, places, begin = [], [], 0
    for name, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
        if not progress.shards or progress.shards[-1] != name:
            progress.shards.append(name)
            progress.in_shard = 0
        numbers.append(np.full(end - begin, len(progress.shards) - 1))
        places.append(np.arange(progress.in_shard, progress.in_shard + end - begin))
        progress.in_shard += end - begin
        begin = end
    return np.concatenate(numbers), np.concatenate(places)


def _hashes(column: pa.Array) -> npt.NDArray[np.uint64]:
    padded = pc.utf8_rpad(column, 64)
    offsets = np.frombuffer(padded.buffers()[1], dtype=np.int32)[padded.offset : padded.offset + len(padded) + 1]
    return bytes_hash(memoryview(padded.buffers()[2])[int(offsets[0]) : int(offsets[-1])], len(padded))


def _find_runs(modality: pa.Array, series: npt.NDArray[np.uint64], progress: _Progress) -> None:
    names = np.asarray(modality.to_pylist(), dtype="U8")
    begins = np.ones(len(series), dtype=np.bool_)
    begins[1:] = (series[1:] != series[:-1]) | (names[1:] != names[:-1])
    begins[0] = progress.last != (names[0], int(series[0]))
    progress.last = (str(names[-1]), int(series[-1]))
    places = np.flatnonzero(begins)
    progress.runs.append((names[places], series[places], places + progress.rows))


def _sort_by_series(folder: Path, progress: _Progress) -> dict[str, tuple[int, int]]:
    """Bring the images of each series together, number the series, and return the range of each modality."""
    names, series, first = (np.concatenate(column) for column in zip(*progress.runs, strict=True))
    length = np.diff(first, append=progress.rows)
    numbers = np.empty(len(series), dtype=np.int64)
    order = np.empty(len(series), dtype=np.int64)
    ranges: dict[str, tuple[int, int]] = {}
    begin = 0
    for name in dict.fromkeys(names.tolist()):
        runs = np.flatnonzero(names == name)
        _, appearance, inverse = np.unique(series[runs], return_index=True, return_inverse=True)
        numbers[runs] = np.argsort(np.argsort(appearance))[inverse]
        order[runs[0] : runs[-1] + 1] = runs[np.argsort(numbers[runs], kind="stable")]
        count = int(length[runs].sum())
        ranges[name] = (begin, begin + count)
        begin += count
    with (folder / "series.bin").open("wb") as of_series, (folder / "row.bin").open("wb") as of_row:
        for part in np.array_split(order, -(-len(order) // _CHUNK)):
            of_series.write(np.repeat(numbers[part], length[part]).astype(COLUMNS["series"]).tobytes())
            within = np.arange(length[part].sum()) - np.repeat(np.cumsum(length[part]) - length[part], length[part])
            of_row.write((np.repeat(first[part], length[part]) + within).astype(COLUMNS["row"]).tobytes())
    if not np.array_equal(order, np.arange(len(order))):
        for file in ("records", "image", "split"):
            kind = RECORD if file == "records" else COLUMNS[file]
            _reorder(folder / f"{file}.bin", kind, first[order].tolist(), length[order].tolist())
    return ranges


def _reorder(path: Path, kind: np.dtype[Any], first: Sequence[int], length: Sequence[int]) -> None:
    """Put the runs of a file in another order."""
    old = np.memmap(path, dtype=kind, mode="r")
    sorted_path = path.with_suffix(".sorted")
    with sorted_path.open("wb") as stream:
        for begin, count in zip(first, length, strict=True):
            stream.write(old[begin : begin + count].tobytes())
    sorted_path.replace(path)
