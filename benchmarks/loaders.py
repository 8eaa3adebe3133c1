"""The same images through this loader, litdata, webdataset and grain: images/s of one core, decode included.

Same store as benchmarks/loader.py; every loader holds the same HTJ2K codestreams in its own format, and gives shuffled
batches of 32 with eight images of each modality, decoded and packed into one array of int16. Processor time of the
process and its workers is counted, on one core, in turns with the bare loop. Loaders that are not installed are named.
Install them apart from scoutview's own environment: their requirements would replace torch.

Run: python benchmarks/loaders.py [--images 400] [--rounds 5]
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import torch
from loader import BATCH, SHAPES, WARM, bare_loop, processor_time, read_pixels, write_store
from torch import Tensor

from scoutview.batches import Archive, BatchPlan
from scoutview.batches.workers import batch_loader

EACH = BATCH // len(SHAPES)
SEED = 0
Makers = dict[str, Callable[[int], Iterator[Any]]]


def decoded(data: bytes) -> npt.NDArray[np.int16]:
    """What every loader does with a record."""
    return np.asarray(imagecodecs.htj2k_decode(data), dtype=np.int16)


def packed(images: Sequence[npt.NDArray[np.int16]]) -> Tensor:
    """A batch as one array."""
    return torch.from_numpy(np.concatenate([image.ravel() for image in images]))


def packed_rows(rows: Sequence[Sequence[npt.NDArray[np.int16]]]) -> Tensor:
    """A batch of rows with an image of each modality."""
    return packed([image for row in rows for image in row])


def codestreams(archive: Archive, modality: str) -> Iterator[bytes]:
    """The records of a modality as they lie in the store."""
    for index in archive.indices(modality):
        store, row = archive.place(index)
        yield store.handles.read(store.path / "shards" / row.modality / row.shard, row.offset_in_shard, row.nbytes)


def make_ours(archive: Archive, folder: Path) -> Callable[[int], Iterator[Any]]:
    """This loader."""
    plan = BatchPlan.make(archive.select(), BATCH, SEED)
    return lambda workers: batch_loader(partial(read_pixels, archive), plan, 0, 10**6, rank=0, ranks=1, workers=workers)


@dataclass(frozen=True)
class _Field:
    """Decodes one field of a sample."""

    name: str

    def __call__(self, sample: Any) -> npt.NDArray[np.int16]:
        return decoded(sample[self.name])


def _same(value: Any) -> Any:
    return value


def make_litdata(archive: Archive, folder: Path) -> Callable[[int], Iterator[Any]]:
    """Chunks of litdata; its parallel data set takes one image of each modality."""
    litdata = importlib.import_module("litdata")
    for modality in SHAPES:
        litdata.optimize(
            _WithData(list(codestreams(archive, modality))),
            list(range(len(archive.indices(modality)))),
            str(folder / modality),
            chunk_bytes=2**25,
            num_workers=1,
            verbose=False,
        )

    def batches(workers: int) -> Iterator[Any]:
        parts = [
            litdata.StreamingDataset(str(folder / name), shuffle=True, seed=SEED, transform=_Field("data"))
            for name in SHAPES
        ]
        together = litdata.ParallelStreamingDataset(parts, length=float("inf"), seed=SEED)
        return iter(litdata.StreamingDataLoader(together, batch_size=EACH, num_workers=workers, collate_fn=packed_rows))

    return batches


@dataclass(frozen=True)
class _WithData:
    """Makes the sample of a number."""

    records: list[bytes]

    def __call__(self, number: int) -> dict[str, bytes]:
        return {"data": self.records[number]}


def make_webdataset(archive: Archive, folder: Path) -> Callable[[int], Iterator[Any]]:
    """Tar files; one stream for each modality, shuffled in a buffer of a hundred."""
    webdataset = importlib.import_module("webdataset")
    for modality in SHAPES:
        with webdataset.ShardWriter(str(folder / f"{modality}-%04d.tar"), maxsize=2**25, verbose=0) as writer:
            for number, data in enumerate(codestreams(archive, modality)):
                writer.write({"__key__": f"{number:06d}", "j2c": data})

    def batches(workers: int) -> Iterator[Any]:
        loader: Any = torch.utils.data.DataLoader(
            _Zipped(folder),
            batch_size=EACH,
            collate_fn=packed_rows,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )
        return iter(loader)

    return batches


@dataclass(frozen=True)
class _Zipped(torch.utils.data.IterableDataset[Any]):
    """An image of each modality at a time, from streams of webdataset."""

    folder: Path

    def __iter__(self) -> Iterator[Any]:
        webdataset = importlib.import_module("webdataset")
        streams = []
        for name in SHAPES:
            urls = [str(path) for path in sorted(self.folder.glob(f"{name}-*.tar"))]
            stream = webdataset.WebDataset(urls, shardshuffle=100, seed=SEED, empty_check=False)
            streams.append(stream.shuffle(100).map(_Field("j2c")).repeat())
        return zip(*streams, strict=False)


def make_grain(archive: Archive, folder: Path) -> Callable[[int], Iterator[Any]]:
    """ArrayRecord files; data sets of the modalities zipped."""
    grain = importlib.import_module("grain")
    record = importlib.import_module("array_record.python.array_record_module")
    for modality in SHAPES:
        writer = record.ArrayRecordWriter(str(folder / f"{modality}.array_record"), "group_size:1,uncompressed")
        for data in codestreams(archive, modality):
            writer.write(data)
        writer.close()

    def batches(workers: int) -> Iterator[Any]:
        parts = [
            grain.MapDataset.source(grain.sources.ArrayRecordDataSource(str(folder / f"{name}.array_record")))
            .shuffle(seed=SEED + number)
            .repeat()
            .map(decoded)
            for number, name in enumerate(SHAPES)
        ]
        rows = grain.experimental.ZipMapDataset(parts).batch(EACH, batch_fn=packed_rows_as_array)
        # Its threads read 500 batches ahead by default, which would be done before the clock starts.
        ordered = rows.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
        if workers:
            options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
            ordered = ordered.mp_prefetch(options)
        return iter(ordered)

    return batches


def packed_rows_as_array(rows: Sequence[Sequence[npt.NDArray[np.int16]]]) -> npt.NDArray[np.int16]:
    """`packed_rows` for a loader that moves NumPy arrays through shared memory."""
    return packed_rows(rows).numpy()


MAKERS: dict[str, Callable[[Archive, Path], Callable[[int], Iterator[Any]]]] = {
    "scoutview": make_ours,
    "litdata": make_litdata,
    "webdataset": make_webdataset,
    "grain": make_grain,
}


def descendants(process: int) -> list[int]:
    """A process and all that it started, directly or not."""
    found = [process]
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += descendants(int(child))
    return found


def time_per_image(batches: Iterator[Any], steps: int) -> float:
    """Processor seconds per image, of all processes, after the first batches."""
    for _ in range(WARM):
        next(batches)
    before = sum(map(processor_time, descendants(os.getpid())))
    for _ in range(steps):
        next(batches)
    return (sum(map(processor_time, descendants(os.getpid()))) - before) / (steps * BATCH)


def main() -> None:
    """Print a line for each loader, relative to the bare loop, and how this one compares with the best other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ratios: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = write_store(Path(folder) / "store", arguments.images)
        draws = BatchPlan.make(archive.select(), BATCH, SEED)
        steps = arguments.images // BATCH
        order = [draw for step in range(steps) for draw in draws.batch(step)]
        loaders = {}
        for name, make in MAKERS.items():
            (Path(folder) / name).mkdir()
            try:
                loaders[name] = make(archive, Path(folder) / name)
            except ImportError as error:
                print(f"{name}: not installed ({error})", flush=True)
        for _ in range(arguments.rounds):
            for name, workers in itertools.product(loaders, (0, 1)):
                bare = bare_loop(archive, order)
                next(bare)
                before = processor_time(os.getpid())
                for _ in bare:
                    pass
                limit = (processor_time(os.getpid()) - before) / len(order)
                batches = loaders[name](workers)
                ratios.setdefault((name, workers), []).append(limit / time_per_image(batches, steps))
                del batches
    found = {key: float(np.median(values)) for key, values in ratios.items()}
    for name in loaders:
        print(f"{name} over bare loop: {found[name, 0]:.3f} in process, {found[name, 1]:.3f} through a worker")
    for workers, words in ((0, "in process"), (1, "through a worker")):
        others = [found[name, workers] for name in loaders if name != "scoutview"]
        if others:
            print(f"this loader over the best other, {words}: {found['scoutview', workers] / max(others):.3f} "
                  "(bar: >= 1)")  # fmt: skip


if __name__ == "__main__":
    main()
