"""How well copies of radiographs are told from other radiographs: hash alone, and hash with correlation.

Run: python benchmarks/near_duplicates.py --data FOLDER
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from scoutview.images import difference_hash
from scoutview.images.hashes import small_copy
from scoutview.store.duplicates import LEAST_CORRELATION, MOST_BITS

REPOSITORY = Path(__file__).resolve().parents[1]


def jpeg(picture: Any) -> Any:
    """Saved at quality 40."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=40)
    return Image.open(stream)


def cropped(picture: Any) -> Any:
    """Without 2% at each border."""
    width, height = picture.size
    return picture.crop((width // 50, height // 50, width - width // 50, height - height // 50))


CHANGES: dict[str, Callable[[Any], Any]] = {
    "half the size": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "JPEG of quality 40": jpeg,
    "gamma 1.4": lambda picture: picture.point(lambda value: int(255 * (value / 255) ** 1.4)),
    "borders of 2% cut off": cropped,
}


def look(picture: Any) -> tuple[np.uint64, npt.NDArray[np.float64]]:
    """Hash and small copy of a grey picture."""
    pixels = np.asarray(picture).astype(np.int16)
    return np.uint64(int(difference_hash(pixels), 16)), small_copy(pixels)


def main() -> None:
    """Print the share of found copies, and the pairs of different patients that are taken for copies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    data = parser.parse_args().data / "cxr_nih_dev.tar"
    if not data.exists():
        raise SystemExit(f"{data} is not there: give the folder of the archives with --data")
    hashes, copies, patients = [], [], []
    found = dict.fromkeys(CHANGES, 0)
    with tarfile.open(data) as archive:

        def member(name: str) -> io.BytesIO:
            stream = archive.extractfile(name)
            assert stream is not None
            return io.BytesIO(stream.read())

        rows = list(csv.DictReader(io.TextIOWrapper(member("labels.csv"))))
        for row in rows:
            picture = Image.open(member(row["file"])).convert("L")
            bits, copy = look(picture)
            hashes.append(bits)
            copies.append(copy)
            patients.append(row["patient_id"])
            for name, change in CHANGES.items():
                other_bits, other = look(change(picture))
                alike = (
                    int(np.bitwise_count(bits ^ other_bits)) <= MOST_BITS and float(copy @ other) >= LEAST_CORRELATION
                )
                found[name] += alike
    distances = np.bitwise_count(np.array(hashes)[:, None] ^ np.array(hashes)[None])
    correlations = np.array(copies) @ np.array(copies).T
    strangers = np.triu(np.array(patients)[:, None] != np.array(patients)[None], 1)
    by_hash = strangers & (distances <= MOST_BITS)
    for name, count in found.items():
        bar = " (bar: >= 0.99)" if "cut off" not in name else ""
        print(f"copies found, {name}: {count / len(rows):.3f}{bar}")
    print(f"pairs of different patients: {int(strangers.sum())}")
    print(f"of them within {MOST_BITS} bits: {int(by_hash.sum())}")
    print(f"of them taken for copies: {int((by_hash & (correlations >= LEAST_CORRELATION)).sum())} (bar: <= 0)")


if __name__ == "__main__":
    main()
