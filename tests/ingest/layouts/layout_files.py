"""What the tests of layouts share: files from a dict of texts, a store of a folder, what a store knows by file."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from source_files import picture

from scoutview.ingest import IngestSummary, Pseudonyms, run_ingest
from scoutview.store import Annotation, Store, read_annotations


def write(folder: Path, files: dict[str, str]) -> Path:
    """Text files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def write_pictures(folder: Path, *names: str, rows: int = 40, columns: int = 52) -> None:
    """PNG files, all different."""
    for seed, name in enumerate(names):
        write_mask(folder / name, picture(rows, columns, seed=seed))


def write_mask(path: Path, pixels: np.ndarray) -> Path:
    """A PNG file of these pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    return path


def take(source: Path, out: Path, **options: object) -> tuple[Store, IngestSummary]:
    """Ingest as X-ray unless said otherwise."""
    summary = run_ingest([source], out, workers=1, **{"modality": "xray", **options})
    return Store.open(out), summary


def said(store: Store, *names: str) -> dict[str, list[Annotation]]:
    """Name -> what is said of the image of that path below its source."""
    keys = Pseudonyms.from_environment()
    images = {row.path_key: row.image for row in store.rows()}
    annotations = read_annotations(store)
    return {name: [item for item in annotations if item.target == images[keys.key("path", name)]] for name in names}


def values(annotations: list[Annotation], reader: str = "") -> dict[str, str]:
    """Label -> value by one reader."""
    return {item.name: item.value for item in annotations if item.kind == "label" and item.reader == reader}
