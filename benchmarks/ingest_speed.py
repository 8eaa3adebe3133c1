"""How much of a core's time ingest spends on the work itself, where it goes, and what a second process adds.

The bare loop makes the same calls on the same files: parse the header, decode, encode and verify, checksum, hash,
measure, preprocess, spectrum. Ingest also finds the files, reads every header twice to assemble series, keys
identifiers, writes shards and catalogs to the disk (fsync), and computes the reference energies.

Run: python benchmarks/ingest_speed.py [--slices 400] [--long 3000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import generate_uid

from scoutview.images import difference_hash, encode_spectrum, measure, pixel_sha256, radial_spectrum
from scoutview.images.types import to_int16
from scoutview.ingest import run_ingest
from scoutview.ingest.dicom_header import read_header
from scoutview.ingest.dicom_kind import format_of, modality_of
from scoutview.ingest.dicom_pixels import decode_frame
from scoutview.ingest.grayscale import modality_lut
from scoutview.phantoms import draw_head_ct
from scoutview.phantoms.trap_files import EVERY_SYNTAX, Slice, write_slice
from scoutview.preprocessing import Preprocessing, preprocess
from scoutview.preprocessing.unit_range import Calibration
from scoutview.store.codec import encode

PLAIN = "1.2.840.10008.1.2.1"
PER_SERIES = 40


def head(size: int = 512, slices: int = 16) -> list[npt.NDArray[np.float64]]:
    """Slices of a head with the noise of a scanner, in HU."""
    return [np.asarray(item.pixels, dtype=np.float64) for item in draw_head_ct(0, 0, size=size, slices=slices)]


def write_series(folder: Path, images: list[npt.NDArray[np.float64]], count: int, syntax: str = PLAIN) -> None:
    """`count` CT files, in series of 40 with even spacing."""
    for number in range(count):
        series, place = divmod(number, PER_SERIES)
        values = images[number % len(images)] + series % 7
        item = Slice(
            (0.0, 0.0, 1.0 * place), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (0.5, 0.5), values.shape, place,
            generate_uid(entropy_srcs=[f"{folder.name} {series}"]), values, thickness=1.0, intercept=-1024.0,
            syntax=syntax,
        )  # fmt: skip
        write_slice(folder / f"{series:04d}" / f"{place:03d}.dcm", item, PatientID=f"P{series}")


class Stopwatch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def call(self, stage: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call and add the time it takes to a stage."""
        begin = time.perf_counter()
        result = function(*arguments)
        self.seconds[stage] += time.perf_counter() - begin
        return result


def bare(files: list[Path], watch: Stopwatch) -> None:
    """The work itself, one file after the other, nothing kept."""
    preprocessing = Preprocessing()
    for path in files:
        header = watch.call("parse the header", read_header, path)
        form = format_of(header, modality_of(header))
        stored = watch.call("read and decode", decode_frame, path, form)
        values, slope, offset = watch.call("units", modality_lut, header, stored, True)
        pixels, step, base, _ = watch.call("units", to_int16, values)
        codestream = watch.call("encode and verify", encode, pixels)
        watch.call("checksums", zlib.crc32, codestream)
        watch.call("hashes", pixel_sha256, pixels)
        watch.call("hashes", difference_hash, pixels)
        known = watch.call("statistics", measure, pixels)
        calibration = Calibration("ct", slope * step, slope * base + offset, "HU", known.minimum, known.low, known.high,
                                  known.maximum)  # fmt: skip
        unit = watch.call("preprocess", preprocess, pixels, calibration, preprocessing)
        spectrum = watch.call("spectrum", radial_spectrum, unit)
        watch.call("spectrum", encode_spectrum, spectrum)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """(wall, processor) seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def taken(source: Path, store: Path, workers: int) -> None:
    """A whole ingest into a new store."""
    shutil.rmtree(store, ignore_errors=True)
    summary = run_ingest([source], store, workers=workers)
    if summary.quarantined:
        raise SystemExit(f"{summary.reasons}: the files of the benchmark must all be taken")


def efficiency(folder: Path, images: list[npt.NDArray[np.float64]], slices: int, rounds: int) -> None:
    """The bare loop and ingest in turn, on one core."""
    source, store = folder / "efficiency", folder / "store"
    write_series(source, images, slices)
    files = sorted(source.rglob("*.dcm"))
    bare(files[:20], Stopwatch())
    taken(source, store, 1)
    walls, processors, watch = [], [], Stopwatch()
    whole = [0.0, 0.0]
    for _ in range(rounds):
        alone = timed(lambda: bare(files, watch))
        ingest = timed(lambda: taken(source, store, 1))
        walls.append(alone[0] / ingest[0])
        processors.append(alone[1] / ingest[1])
        whole = [whole[0] + alone[0], whole[1] + ingest[0]]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"\n{len(files)} CT slices of 512 x 512, {rounds} rounds, ms per file on one core")
    for stage, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"  {stage:20} {1e3 * seconds / len(files) / rounds:6.2f}")
    print(f"  {'bare loop':20} {1e3 * whole[0] / len(files) / rounds:6.2f}")
    print(f"  {'ingest':20} {1e3 * whole[1] / len(files) / rounds:6.2f}")
    print(f"  {'raw MB/s of ingest':20} {megabytes * rounds / whole[1]:6.1f}")
    print(f"bare loop over ingest, processor time: {statistics.median(processors):.3f} (bar: >= 0.85)")
    print(f"bare loop over ingest, wall time: {statistics.median(walls):.3f} (bar: >= 0.85)")


def syntaxes(folder: Path, images: list[npt.NDArray[np.float64]]) -> None:
    """Processor time of ingest per file, by transfer syntax."""
    print("\ntransfer syntax, ms of one core per CT slice of 512 x 512, core hours for 10^8 of them")
    for name, syntax in {"explicit little endian": PLAIN, **EVERY_SYNTAX}.items():
        source = folder / name.replace(" ", "-")
        write_series(source, images, PER_SERIES, syntax)
        taken(source, folder / "store", 1)
        seconds = min(timed(lambda source=source: taken(source, folder / "store", 1))[1] for _ in range(3))  # type: ignore[misc]
        print(f"  {name:24} {1e3 * seconds / PER_SERIES:6.1f} {seconds / PER_SERIES * 1e8 / 3600:8.0f}")
        shutil.rmtree(source)


def two_processes(folder: Path, images: list[npt.NDArray[np.float64]], slices: int) -> None:
    """One process against two, start included, in turn."""
    source, store = folder / "long", folder / "store"
    write_series(source, images, slices)
    ones, twos, drivers = [], [], []
    for _ in range(2):
        ones.append(timed(lambda: taken(source, store, 1))[0])
        wall, driver = timed(lambda: taken(source, store, 2))
        twos.append(wall)
        drivers.append(driver)
        print(f"\n{slices} slices: {ones[-1]:.1f} s by one process, {twos[-1]:.1f} s by two")
    print(f"the driver's own time, ms per file: {1e3 * min(drivers) / slices:.2f}")
    print(f"two processes over one: {sum(ones) / sum(twos):.2f} (bar: >= 1.8)")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", type=int, default=3000)
    options = parser.parse_args()
    os.environ.setdefault("SCOUTVIEW_KEY", "phantoms need no secret")
    with tempfile.TemporaryDirectory() as name:
        images = head()
        efficiency(Path(name), images, options.slices, options.rounds)
        syntaxes(Path(name), images)
        two_processes(Path(name), images, options.long)


if __name__ == "__main__":
    main()
