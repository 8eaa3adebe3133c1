"""What an image costs a loader process on this machine, measured on a sample by the loader's own code."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from scoutview.batches.archive import Archive
from scoutview.batches.budget import ImageCost
from scoutview.batches.loader import ViewDataset, ViewSample, collate_views
from scoutview.batches.sampler import BatchPlan
from scoutview.store import IndexRow, Store
from scoutview.store.codec import decode

SAMPLE = 100
"""Images of a modality at most."""
_TOGETHER = 8
"""Images that are made into a batch."""


@dataclass
class Stopwatch:
    """Seconds of a processor core and of the clock that its `running` blocks took."""

    cores: float = 0.0
    clock: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens within."""
        cores, clock = time.process_time(), time.perf_counter()
        yield
        self.cores += time.process_time() - cores
        self.clock += time.perf_counter() - clock


@dataclass
class Calibration:
    """The sample of a modality. reading: bytes from storage, checked; decoding; loading: all of the loader's work.

    samples: some of what the loader made, for measuring the steps that come after it.
    """

    cost: ImageCost
    measured: int
    reading: Stopwatch
    samples: list[ViewSample] = field(default_factory=list)


def calibrate(dataset: ViewDataset, plan: BatchPlan, number: int, seconds: float) -> Calibration:
    """Measure modality `number` of a plan, on images spread over an epoch of it, for up to `seconds`.

    dataset: should keep nothing, as it is with archives that do not fit into memory. The pages of local shards are
    dropped from memory before they are read, as far as the system does so.

    Raises:
        DamagedRecordError: if an image is damaged.
    """
    images = len(plan.lanes[number].selection)
    reading, decoding, loading = Stopwatch(), Stopwatch(), Stopwatch()
    nbytes, measured, samples = 0, 0, list[ViewSample]()
    waiting: list[ViewSample] = []
    began = time.perf_counter()
    steps = np.linspace(0, images, min(SAMPLE, images), endpoint=False).astype(int).tolist()
    dataset[plan.batch(steps[0])[number]]  # what is loaded and set up once is not a cost of an image
    for step in steps:
        draw = plan.batch(step)[number]
        store, row = dataset.archive.place(draw.index)
        level = dataset.level(draw, row)
        _drop_pages(store, row)
        with reading.running():
            codestream, spectrum = store.read_bytes(row, level)
        with decoding.running():
            decode(codestream, level)
        with loading.running():
            waiting.append(dataset[draw])
        nbytes += len(codestream) + len(spectrum)
        measured += 1
        if len(waiting) == _TOGETHER:
            with loading.running():
                collate_views(waiting)
            samples, waiting = samples or waiting, []
        if time.perf_counter() - began > seconds:
            break
    cost = ImageCost(
        modality=plan.modalities[number],
        images=images,
        stored_bytes=stored_bytes(dataset.archive, plan.modalities[number]),
        read_bytes=nbytes / measured,
        decode_seconds=(reading.cores + decoding.cores) / measured,
        loader_seconds=loading.cores / measured,
        wall_seconds=(max(reading.clock - reading.cores, 0.0) + loading.clock) / measured,
    )
    return Calibration(cost, measured, reading, samples or waiting)


def stored_bytes(archive: Archive, modality: str) -> int:
    """Bytes of all codestreams and spectra of a modality."""
    records = [part.column(part.index.records) for part in archive.segments if part.modality == modality]
    return sum(int(part[name].sum(dtype=np.int64)) for part in records for name in ("nbytes", "spectrum_nbytes"))


def _drop_pages(store: Store, row: IndexRow) -> None:
    """Have an image read from the disk, not from memory."""
    if store.blocks is not None or not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(f"{store.shards}/{row.modality}/{row.shard}", os.O_RDONLY)
    try:
        length = row.offset_in_shard - row.spectrum_offset + row.nbytes
        os.posix_fadvise(descriptor, row.spectrum_offset, length, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
