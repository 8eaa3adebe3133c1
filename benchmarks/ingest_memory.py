"""Peak memory of the processes of an ingest: 20,000 files, and one file of 2,000 frames (1 GB).

Run: python benchmarks/ingest_memory.py [--files 20000] [--frames 2000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from scoutview.phantoms.trap_files import Slice, write_enhanced

BAR = 1e9
"""Bytes."""


def write_small(folder: Path, count: int) -> None:
    """MR slices of 96 x 96 in series of 50, each written by changing the bytes of one file."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 400, (200, 96, 96)).astype(np.float64)
    template = _small(noise[0], 0, 0)
    template.save_as(folder.parent / "template.dcm", enforce_file_format=True)
    dataset = pydicom.dcmread(folder.parent / "template.dcm")
    for number in range(count):
        series, place = divmod(number, 50)
        path = folder / f"{series:04d}" / f"{place:02d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{series}.{place}"
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = f"1.3.{series}", f"1.4.{series}"
        dataset.PatientID = f"P{series}"
        dataset.ImagePositionPatient = [0, 0, place]
        dataset.PixelData = np.roll(noise[number % 200], number).astype("<u2").tobytes()
        dataset.save_as(path)


def _small(values: np.ndarray, series: int, place: int) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.4", "MR"
    dataset.SOPInstanceUID = generate_uid()
    dataset.FrameOfReferenceUID = "1.5"
    dataset.ImageOrientationPatient, dataset.PixelSpacing, dataset.SliceThickness = [1, 0, 0, 0, 1, 0], [1, 1], 1
    dataset.Rows = dataset.Columns = 96
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = values.astype("<u2").tobytes()
    return dataset


def write_large(path: Path, frames: int) -> None:
    """An enhanced CT of 512 x 512 x frames, of which frames differ."""
    generator = np.random.default_rng(1)
    base = generator.normal(40, 30, (512, 512))
    base[:60] = -1000
    slices = [
        Slice((0.0, 0.0, float(number)), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (0.5, 0.5), (512, 512), number,
              "1.2.3.4", np.roll(base, number, axis=1), thickness=1.0, intercept=-1500.0)
        for number in range(16)
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_enhanced(path, [_moved(slices[number % 16], number) for number in range(frames)])


def _moved(item: Slice, number: int) -> Slice:
    return Slice((0.0, 0.0, float(number)), item.directions, item.spacing, item.shape, number, item.series, item.values,
                 thickness=1.0, intercept=-1500.0)  # fmt: skip


def peaks(source: Path, store: Path) -> tuple[list[float], float, float]:
    """(largest resident bytes of any worker in each fifth of the run, of the driver, seconds)."""
    command = [sys.executable, "-m", "scoutview", "ingest", str(source), "--out", str(store), "--workers", "2"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples: list[tuple[float, float]] = []
    driver = 0.0
    while process.poll() is None:
        sizes = [_resident(pid) for pid in _children(process.pid)]
        samples.append((time.perf_counter() - begin, max(sizes, default=0.0)))
        driver = max(driver, _resident(process.pid))
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit("the ingest failed")
    fifths = [[size for at, size in samples if int(5 * at / seconds) == part] for part in range(5)]
    return [max(part, default=0.0) for part in fifths], driver, seconds


def _children(driver: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == driver:
            found.append(int(status.parent.name))
    return found


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):
        return 0.0


def main() -> None:
    """Print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--frames", type=int, default=2000)
    options = parser.parse_args()
    os.environ.setdefault("SCOUTVIEW_KEY", "phantoms need no secret")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title in ("many", "one"):
            source = folder / title
            source.mkdir()
            # A child writes: what it needs for that does not count.
            pid = os.fork()
            if pid == 0:
                if title == "many":
                    write_small(source, options.files)
                else:
                    write_large(source / "large.dcm", options.frames)
                os._exit(0)
            if os.waitpid(pid, 0)[1] != 0:
                raise SystemExit("the files could not be written")
            size = sum(path.stat().st_size for path in source.rglob("*.dcm"))
            fifths, driver, seconds = peaks(source, folder / f"{title}-store")
            words = f"{options.files} files" if title == "many" else f"one file of {options.frames} frames"
            shown = ", ".join(f"{part / 1e6:.0f}" for part in fifths)
            print(f"{words}, {size / 1e9:.2f} GB, {seconds:.0f} s: largest worker in each fifth {shown} MB")
            print(f"{words}: driver at most {driver / 1e6:.0f} MB")
            print(f"{words}: worker at most, MB: {max(fifths) / 1e6:.0f} (bar: <= {BAR / 1e6:.0f})")
            growth = fifths[4] / max(fifths[1], 1.0)
            print(f"{words}: last fifth over second: {growth:.2f} (bar: <= 1.2)")


if __name__ == "__main__":
    main()
