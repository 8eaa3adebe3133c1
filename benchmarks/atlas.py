"""An atlas of 20,000 images: seconds from features to page, megabytes, and in Chromium how fast it answers.

Features of 128 numbers lie around random centres; pictures are smooth noise. Everything after the encoder and before
the search for copies runs as in `scoutview atlas`. Where chromium is on PATH, a copy of the page measures itself.

Run: python benchmarks/atlas.py [--images 20000]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.commands.atlas import content_of
from scoutview.images import MODALITIES, Image, encode_spectrum, radial_spectrum
from scoutview.preprocessing import Preprocessing
from scoutview.report import write_atlas_page
from scoutview.report.sprites import CELL
from scoutview.store import ImageRow, make_record
from scoutview.store.shards import Keys

FEATURES, CENTRES, LABELS, COPIES = 128, 100, 14, 200
NO_KEYS = Keys("", "", "", "", "", "", "", "", "", split="train")
MEASURE = """
const ready = performance.now();
const times = [];
for (const cell of [...document.querySelectorAll("main button.cell")].slice(0, 20)) {
  const began = performance.now();
  cell.click();
  document.getElementById("dialog").getBoundingClientRect();
  times.push(performance.now() - began);
  document.getElementById("dialog").close();
}
document.getElementById("told").textContent = "measured " + ready + " " + Math.max(...times);
"""


def rows_of(images: int, generator: np.random.Generator) -> list[ImageRow]:
    """A quarter of the images of each modality."""
    pixels = np.zeros((64, 64), dtype=np.int16)
    spectrum = encode_spectrum(radial_spectrum(pixels.astype(np.float32)))
    row = make_record(Image(pixels, "xray"), NO_KEYS, spectrum, Preprocessing().identity()).row
    return [
        replace(
            row,
            image=generator.bytes(16).hex(),
            modality=MODALITIES[4 * number // images],
            pixel_sha256=generator.bytes(32).hex(),
        )
        for number in range(images)
    ]


def pictures_of(images: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Smooth noise [image, CELL, CELL], a thousand at a time."""
    return np.concatenate([_smooth(min(1000, images - begin), generator) for begin in range(0, images, 1000)])


def _smooth(images: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    coarse = generator.integers(0, 230, (images, 9, 9)).astype(np.float32)
    places = np.arange(CELL) / 8
    low, share = places.astype(int), (places % 1).astype(np.float32)
    rows = coarse[:, low] * (1 - share)[:, None] + coarse[:, low + 1] * share[:, None]
    smooth = rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share
    return (smooth + generator.integers(0, 20, smooth.shape)).astype(np.uint8)


def content_with(images: int, generator: np.random.Generator) -> dict[str, Any]:
    """What the page is written from, as `scoutview atlas` makes it."""
    rows = rows_of(images, generator)
    centres = generator.standard_normal((CENTRES, FEATURES))
    noise = generator.standard_normal((images, FEATURES))
    vectors = (centres[generator.integers(0, CENTRES, images)] + 0.7 * noise).astype(np.float32)
    labels = {f"label: finding {number}": generator.integers(0, 2, images) for number in range(LABELS)}
    places = generator.integers(0, images, (COPIES, 2)).tolist()
    return {
        "encoder": {"name": "benchmark", "run": "none"},
        "store": {"name": "benchmark", "snapshot": "0" * 16},
        "images_in_store": images,
        "damaged": [],
        "columns": {
            "modality": [row.modality for row in rows],
            "split": [row.split for row in rows],
            **{name: [str(value) for value in values.tolist()] for name, values in labels.items()},
        },
        **content_of(rows, vectors, "Features are random."),
        "near_duplicates": {
            "pairs": [
                {"first": first, "second": second, "bits": 1, "correlation": 0.99, "same_patient": False}
                for first, second in places
            ],
            "left_out": [{"image": second, "like": first} for first, second in places],
            "equal_pixels": 0,
        },
    }


def measured(page: Path, folder: Path) -> tuple[float, float]:
    """(s until the map is drawn, ms of the slowest of 20 clicks with their layout) in headless Chromium."""
    digest = base64.b64encode(hashlib.sha256(MEASURE.encode()).digest()).decode()
    html = page.read_text(encoding="utf-8").replace("; script-src ", f"; script-src 'sha256-{digest}' ", 1)
    copy = folder / "measured.html"
    copy.write_text(html.replace("</body>", f"<script>{MEASURE}</script></body>"), encoding="utf-8")
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"]
    profile = f"--user-data-dir={folder / 'profile'}"
    dom = subprocess.run(
        ["chromium", *switches, profile, copy.as_uri()], capture_output=True, text=True, timeout=300, check=True
    ).stdout
    found = re.search(r"measured ([\d.]+) ([\d.]+)</p>", dom)
    if found is None:
        raise SystemExit("chromium did not run the page's script")
    return float(found[1]) / 1000, float(found[2])


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = pictures_of(arguments.images, generator)
        began = time.process_time(), time.perf_counter()
        content = content_with(arguments.images, generator)
        (folder / "atlas.json").write_text(dumps(content))
        figures = time.process_time() - began[0]
        page = write_atlas_page(folder / "atlas.html", content, pictures)
        used, passed = time.process_time() - began[0], time.perf_counter() - began[1]
        size, numbers = page.stat().st_size, (folder / "atlas.json").stat().st_size
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"of the build figures, processor s: {figures:.1f} (bar: no bar)")
        print(f"figures and page of {arguments.images} images, s: {passed:.1f} (bar: no bar)")
        print(f"the same, processor s: {used:.1f} (bar: <= 120)")
        print(f"size of the page, MB: {size / 1e6:.1f} (bar: <= 40)")
        print(f"size of atlas.json, MB: {numbers / 1e6:.1f} (bar: no bar)")
        print(f"memory, GB: {memory / 1e9:.2f} (bar: <= 2)")
        if shutil.which("chromium"):
            ready, click = measured(page, folder)
            print(f"until the map is drawn in Chromium, s: {ready:.2f} (bar: <= 3)")
            print(f"slowest click in Chromium, ms: {click:.0f} (bar: <= 100)")
        else:
            print("chromium is not on PATH: first paint and clicks were not measured")


if __name__ == "__main__":
    main()
