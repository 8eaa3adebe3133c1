"""`scoutview inspect` at size: the page of a store of 20,000 images, and counts over a catalog of 10 million.

The images are noise of four sizes, some of them stored many times over; the catalog is that of benchmarks/sampler.py.
Needs 8 GB of disk and five minutes on one core.

Run: python benchmarks/inspect_page.py [--images 20000] [--rows 10000000]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sampler import make_catalog

from scoutview import inspect
from scoutview.commands.store_tables import tables_of
from scoutview.images import Image, Modality, encode_spectrum, radial_spectrum
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import Record, Store, StoreWriter, make_record
from scoutview.store.shards import Keys

SIZES: dict[Modality, tuple[int, int]] = {"xray": (1200, 1000), "ct": (512, 512), "mr": (256, 256), "us": (480, 640)}
NO_KEYS = Keys("", "", "", "", "", "", "", "", "", split="train")
PER_VOLUME = 50
ARCHIVE = 105_000_000
COUNTS = """
SELECT modality, split, count(*), min(least(rows, columns)), max(greatest(rows, columns)), min(row_spacing),
       max(row_spacing), count(*) - count(row_spacing), sum(nbytes)
FROM catalog GROUP BY ALL
"""


def drawn(modality: Modality, generator: np.random.Generator) -> Record:
    """An image of noise that is smooth over 8 px."""
    rows, columns = SIZES[modality]
    coarse = generator.integers(0, 2000, (rows // 8 + 1, columns // 8 + 1))
    pixels = coarse.repeat(8, 0).repeat(8, 1)[:rows, :columns] + generator.integers(0, 50, (rows, columns))
    image = Image(pixels.astype(np.int16), modality, offset=-1024.0, units="HU" if modality == "ct" else "")
    spectrum = radial_spectrum(preprocess(image.pixels, calibration_of(image), Preprocessing()))
    return make_record(image, NO_KEYS, encode_spectrum(spectrum), Preprocessing().identity())


def make_store(folder: Path, images: int) -> None:
    """A quarter of the images of each modality; CT and MR in volumes."""
    generator = np.random.default_rng(0)
    with StoreWriter(folder, "benchmark") as writer:
        for modality in SIZES:
            records = [drawn(modality, generator) for _ in range(4)]
            for number in range(images // 4):
                record = records[number % 4]
                stack = f"{modality}{number // PER_VOLUME:028x}" if modality in ("ct", "mr") else ""
                row = replace(
                    record.row,
                    image=generator.bytes(16).hex(),
                    patient=f"{modality}{number // 60}",
                    series=f"{modality}{number // PER_VOLUME}",
                    stack=stack,
                    slice_index=number % PER_VOLUME if stack else None,
                    pixel_sha256=generator.bytes(32).hex(),
                    file_key=f"{modality}{number}",
                )
                writer.add(replace(record, row=row))


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_store(folder / "images", arguments.images)
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            inspect(folder / "images", html=folder / "page.html")
        page = time.perf_counter() - began
        size = (folder / "page.html").stat().st_size
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        make_catalog(folder / "catalog", arguments.rows)
        with tables_of(Store.open(folder / "catalog")) as connection:
            began = time.perf_counter()
            connection.execute(COUNTS).fetchall()
            counts = time.perf_counter() - began
    print(f"page of {arguments.images} images, s: {page:.1f} (bar: <= 30)")
    print(f"size of the page, MB: {size / 1e6:.2f} (bar: no bar)")
    print(f"memory until then, GB: {memory / 1e9:.2f} (bar: <= 1)")
    bar = 10 * arguments.rows / ARCHIVE
    print(f"counts by modality and split of {arguments.rows} rows, pages checked, s: {counts:.2f} (bar: <= {bar:.2f})")


if __name__ == "__main__":
    main()
