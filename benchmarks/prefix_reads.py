"""Radiographs at half size or less: images/s of the loader when it reads prefixes, against full reads.

Radiographs of 2500 x 2000 px, half phantoms and half 1/f textures with noise, in views of the paper's sizes whose
factor is drawn from [0.1, 0.5]. Both ways go through the loader in one process, in turns: draw the views, read, check,
decode, preprocess, transform, collate. What differs between the views is measured, too, on views of the first batch.

Run: python benchmarks/prefix_reads.py [--images 12] [--rounds 4]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from scoutview.batches import Archive, BatchPlan, TrainingBatch, view_loader
from scoutview.batches.kept import Kept
from scoutview.batches.loader import ViewDataset
from scoutview.images import Image, encode_spectrum, radial_spectrum
from scoutview.phantoms import draw_radiograph
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import StoreWriter, make_record
from scoutview.store.shards import Keys
from scoutview.views import ReferenceEnergies, ViewSettings, render_views

ROWS, COLUMNS = 2500, 2000
SETTINGS = ViewSettings(fraction=(0.1, 0.5))
BATCH = 4
RENDERED = 2


def texture(generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """An image [row, column] whose amplitudes fall as 1/f, as those of photographs do, with 1% of white noise."""
    noise = np.fft.rfft2(generator.standard_normal((ROWS, COLUMNS)))
    radius = np.hypot(np.fft.fftfreq(ROWS)[:, None], np.fft.rfftfreq(COLUMNS)[None])
    radius[0, 0] = 1.0
    image = np.fft.irfft2(noise / radius, s=(ROWS, COLUMNS))
    image = (image - image.min()) / np.ptp(image) + generator.normal(0, 0.01, image.shape)
    return np.asarray(image.clip(0, 1) * 4095, dtype=np.float32)


def write_store(path: Path, images: int) -> Archive:
    """A store of radiographs with their spectra."""
    preprocessing = Preprocessing()
    with StoreWriter(path, "benchmark") as writer:
        for number in range(images):
            drawn = texture(np.random.default_rng(number)) if number % 2 else draw_radiograph(0, number, ROWS).pixels
            image = Image(np.round(drawn[:, :COLUMNS]).astype(np.int16), "xray")
            spectrum = encode_spectrum(radial_spectrum(preprocess(image.pixels, calibration_of(image), preprocessing)))
            name = f"{number:032x}"
            keys = Keys(name, name, "", "", name, name, name, "", "", "train")
            writer.add(make_record(image, keys, spectrum, preprocessing.identity()))
    return Archive.open([path])


def seconds(work: Callable[[], None]) -> float:
    """Processor time of this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = np.geomspace(32.0, 1200.0, 16)
    references = {"xray": ReferenceEnergies(grid, np.full((16, 6), 0.05), np.full((16, 6), 0.02))}
    with tempfile.TemporaryDirectory() as folder:
        archive = write_store(Path(folder) / "store", arguments.images)
        dataset = ViewDataset(archive, Preprocessing(), SETTINGS, references, 0, Kept(0))
        plan = BatchPlan.make(archive.select(), BATCH, 0)
        steps = arguments.images // BATCH

        def read(levels: bool, first: int, last: int) -> list[TrainingBatch]:
            with nullcontext() if levels else patch("scoutview.batches.loader.coarsest_level", return_value=0):
                return list(view_loader(dataset, plan, first, last, rank=0, ranks=1, workers=0))

        def drain(levels: bool, round_number: int) -> None:
            for step in range(round_number * steps, (round_number + 1) * steps):
                read(levels, step, step + 1)

        first = [read(levels, 0, 1)[0] for levels in (True, False)]
        few = [
            replace(
                batch.views,
                **{name: value[:RENDERED] for name, value in vars(batch.views).items() if name != "pixels"},
            )
            for batch in first
        ]
        views = [torch.cat([group.flatten() for group in render_views(batch, SETTINGS.view_sizes())]) for batch in few]
        difference = float((views[0] - views[1]).square().mean().sqrt())
        times: dict[bool, list[float]] = {True: [], False: []}
        for number in range(arguments.rounds):
            for levels in (True, False):
                times[levels].append(seconds(partial(drain, levels, number)))
        rows = [archive.place(index)[1] for index in range(arguments.images)]
    images = steps * BATCH
    share = sum(row.prefix_nbytes_2 for row in rows) / sum(row.nbytes for row in rows)
    speed = {levels: images / float(np.median(values)) for levels, values in times.items()}
    print(f"bytes of the prefix at half size: {share:.3f} of the image")
    print(f"r.m.s. difference of the views, whose range is 1: {difference:.4f}")
    print(f"images/s of one core: {speed[True]:.1f} with prefix reads, {speed[False]:.1f} with full reads")
    print(f"prefix reads over full reads: {speed[True] / speed[False]:.2f} (bar: >= 2.5)")


if __name__ == "__main__":
    main()
