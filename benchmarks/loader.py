"""One core: balanced, shuffled batches with decode, against pread + crc + decode of the same records in the same order.

A store of textured images with noise: CT 512 x 512, MR 384 x 384, US 600 x 800, X-ray 1250 x 1000. Our way is all that
a training does but views: the plan's batches through the index, checked reads of codestream and spectrum, decode into
the batch, which is one array of int16 pixels. The bare loop knows where each record lies beforehand, keeps its files
open, and decodes into arrays that it drops. Both leave out preprocessing and transform. Worker and consumer share one
core, and rounds of the ways alternate.

Run: python benchmarks/loader.py [--images 400] [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.batches import Archive, BatchPlan, Draw
from scoutview.batches.shared import batch_memory
from scoutview.batches.workers import batch_loader
from scoutview.images import Image, Modality, encode_spectrum, radial_spectrum
from scoutview.store import StoreWriter, make_record
from scoutview.store.shards import Keys

SHAPES: dict[Modality, tuple[int, int]] = {"ct": (512, 512), "mr": (384, 384), "us": (600, 800), "xray": (1250, 1000)}
BATCH = 32
WARM = 2
"""Batches before and behind the timed ones."""


def textured(generator: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.int16]:
    """12-bit pixels [row, column] whose amplitudes fall as f^-1.5, with noise of four steps."""
    noise = np.fft.rfft2(generator.standard_normal(shape))
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    radius[0, 0] = 1.0
    image = np.fft.irfft2(noise / radius**1.5, s=shape)
    image = (image - image.min()) / np.ptp(image) * 4095 + generator.normal(0, 4, shape)
    return np.asarray(np.round(image), dtype=np.int16)


def write_store(path: Path, images: int, shard_bytes: int = 2**25) -> Archive:
    """A store of `images` images, equally many of each modality, in several shards."""
    with StoreWriter(path, "benchmark", shard_bytes) as writer:
        for number in range(images // len(SHAPES)):
            for modality, shape in SHAPES.items():
                image = Image(textured(np.random.default_rng(number), shape), modality)
                spectrum = encode_spectrum(radial_spectrum(image.pixels / np.float32(4095)))
                name = f"{modality}{number:030x}"
                keys = Keys(name, name, "", "", name, name, name, "", "", "train")
                writer.add(make_record(image, keys, spectrum, "00000000"))
    return Archive.open([path])


@dataclass(frozen=True)
class PixelBatch:
    """pixels: int16 of all images, end to end; shape [image, 2]; index [image]."""

    pixels: Tensor
    shape: Tensor
    index: Tensor


def read_pixels(archive: Archive, draws: list[Draw]) -> PixelBatch:
    """A batch, decoded into its place."""
    places = [archive.place(draw.index) for draw in draws]
    shape = torch.tensor([(row.rows, row.columns) for _, row in places])
    ends = shape.prod(1).cumsum(0).tolist()
    pixels = batch_memory(ends[-1], dtype=torch.int16)
    target = pixels.numpy()
    for (store, row), end in zip(places, ends, strict=True):
        store.read_record(row, out=target[end - row.rows * row.columns : end].reshape(row.rows, row.columns))
    return PixelBatch(pixels, shape, torch.tensor([draw.index for draw in draws]))


def bare_loop(archive: Archive, draws: list[Draw]) -> Iterator[npt.NDArray[np.int16]]:
    """pread + crc + decode of each image, with everything about the records known before."""
    rows = [archive.place(draw.index) for draw in draws]
    files: dict[str, int] = {}
    for store, row in rows:
        if row.shard not in files:
            files[row.shard] = os.open(store.path / "shards" / row.modality / row.shard, os.O_RDONLY)
    plain = [(files[row.shard], row.offset_in_shard, row.nbytes, row.crc32) for _, row in rows]
    yield np.empty(0, np.int16)  # what follows is timed
    for file, offset, nbytes, crc32 in plain:
        data = os.pread(file, nbytes, offset)
        if zlib.crc32(data) != crc32:
            raise SystemExit("a record is damaged")
        yield imagecodecs.htj2k_decode(data)
    for file in files.values():
        os.close(file)


def seconds_of(batches: Iterator[object], skipped: int, count: int) -> float:
    """Processor time for `count` items after the first `skipped`, of this process and its workers."""
    for _ in range(skipped):
        next(batches)
    processes = [os.getpid(), *(process.pid or 0 for process in active_children())]
    before = sum(map(processor_time, processes))
    for _ in range(count):
        next(batches)
    return sum(map(processor_time, processes)) - before


def processor_time(process: int) -> float:
    """Seconds of a process with all its threads, in steps of 1/100."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        archive = write_store(Path(folder) / "store", arguments.images)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        plan = BatchPlan.make(archive.select(), BATCH, 0)
        steps = arguments.images // BATCH
        read = partial(read_pixels, archive)
        times: dict[str, list[float]] = {"bare": [], "process": [], "workers": []}
        for number in range(arguments.rounds):
            first, last = number * steps + WARM, (number + 1) * steps + WARM
            draws = [draw for step in range(first, last) for draw in plan.batch(step)]
            times["bare"].append(seconds_of(bare_loop(archive, draws), 1, len(draws)))
            ours = batch_loader(read, plan, first, last, rank=0, ranks=1, workers=0)
            times["process"].append(seconds_of(ours, 0, steps))
            # Not timed: the start of the worker, some seconds once a run. The consumer does nothing but wait, so that
            # the worker is never ahead of it; the batches behind the last keep it from ending.
            helped = batch_loader(read, plan, first - WARM, last + WARM, rank=0, ranks=1, workers=1)
            times["workers"].append(seconds_of(helped, WARM, steps))
            del helped
    print(f"bare loop: {steps * BATCH / float(np.median(times['bare'])):.0f} images/s")
    for name, words, bar in (
        ("process", "in process", 0.95),
        ("workers", "through a worker on the same core", 0.80),
    ):
        ratio = float(np.median(np.array(times["bare"]) / np.array(times[name])))
        print(f"loader over bare loop, {words}: {ratio:.3f} (bar: >= {bar})")


if __name__ == "__main__":
    main()
