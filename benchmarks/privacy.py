"""Identifying values planted in every text element of 200 phantoms, and searched for in every byte of the store.

Run: python benchmarks/privacy.py
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import pydicom
from pydicom.datadict import DicomDictionary, keyword_for_tag

from scoutview.ingest import run_ingest
from scoutview.ingest.privacy import search_store
from scoutview.phantoms import write_phantoms

PATIENTS = {"xray": 50, "ct": 50, "mr": 50, "us": 50}
TEXTS = {
    "AE": "AE{}", "LO": "Text of {}", "LT": "long text of {}", "PN": "Name{}^Given{}", "SH": "Sh{}", "ST": "st of {}",
    "UC": "Uc{}", "UT": "ut of {}",
}  # fmt: skip
DECIDES = ("RescaleType",)
"""Texts without which an image is not taken."""


def plant(path: Path, patient: int) -> None:
    """Write values of the patient into every text element that the dictionary knows."""
    dataset = pydicom.dcmread(path)
    for place, (tag, entry) in enumerate(sorted(DicomDictionary.items())):
        keyword = keyword_for_tag(tag)
        if entry[0] in TEXTS and tag >> 16 > 4 and not entry[3] and keyword and keyword not in DECIDES:
            mark = f"{patient:03d}x{place:05d}"
            setattr(dataset, keyword, TEXTS[entry[0]].replace("{}", mark))
    dataset.save_as(path)


def main() -> None:
    """Print what was planted, and what was found."""
    os.environ.setdefault("SCOUTVIEW_KEY", "phantoms need no secret")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder / "phantoms", patients=PATIENTS, seed=0, size=64, slices=3)
        images = folder / "phantoms" / "images"
        numbers: dict[str, int] = {}
        for path in sorted(images.rglob("*.dcm")):
            plant(path, numbers.setdefault(path.parent.as_posix(), len(numbers)))
        summary = run_ingest([images], folder / "store", workers=1)
        report = search_store(folder / "store", [images])
    print(f"patients: {len(numbers)}")
    print(f"images taken: {summary.images} of {summary.files} files, {summary.volumes} volumes")
    print(f"texts looked for: {report.values} in {report.bytes} bytes")
    print(f"found: {len(report.findings)} (bar: <= 0)")


if __name__ == "__main__":
    main()
