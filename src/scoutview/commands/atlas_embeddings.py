"""Features and small pictures of many images, kept in blocks on disk so that a killed atlas continues."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive, read_unit_image
from scoutview.encoders import Encoder, embed_images
from scoutview.files import replacing
from scoutview.progress import counted
from scoutview.report.sprites import CELL, cell
from scoutview.store import DamagedRecordError

BLOCK = 256
"""Images between two files; what a kill loses at most."""


@dataclass(frozen=True)
class Embedded:
    """indices [image]: in the archive, without damaged ones. vectors [image, feature]. pictures [image, row, column]:
    uint8, black where the image must not be shown."""

    indices: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    pictures: npt.NDArray[np.uint8]


def embedded(archive: Archive, encoder: Encoder, folder: Path, device: str) -> Embedded:
    """The images of an archive; what the folder holds of this encoder and these images is not made again."""
    key = cache_key(archive, encoder)
    count = len(archive.rows)
    parts: list[Embedded] = []
    for number in counted(range(-(-count // BLOCK)), f"blocks of {BLOCK} images"):
        path = folder / key / f"{number:06d}.npz"
        part = _read(path)
        if part is None:
            begin = number * BLOCK
            part = _embed(archive, encoder, range(begin, min(begin + BLOCK, count)), device)
            _write(path, part)
        parts.append(part)
    return Embedded(
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.pictures for part in parts]),
    )


def cache_key(archive: Archive, encoder: Encoder) -> str:
    """16 hex digits that name the weights with their preprocessing, the snapshots, and which of their images it is."""
    digest = hashlib.sha256(f"{encoder.architecture} {encoder.input_size} {encoder.preprocessing.identity()} ".encode())
    for value in encoder.network.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    digest.update(f" {BLOCK} {' '.join(store.snapshot() for store in archive.stores)}".encode())
    for segment in archive.segments:
        digest.update(segment.column(segment.index.image).tobytes())
    return digest.hexdigest()[:16]


def is_hidden(flags: str) -> bool:
    """Whether pixels may name a patient, so that no page shows them."""
    return "text_unknown" in flags.split()


def _embed(archive: Archive, encoder: Encoder, indices: Sequence[int], device: str) -> Embedded:
    whole: list[int] = []
    pictures: list[npt.NDArray[np.uint8]] = []

    def pixels() -> Iterator[npt.NDArray[np.float32]]:
        for index in indices:
            try:
                image, _ = read_unit_image(archive, index, encoder.preprocessing)
            except DamagedRecordError:
                continue
            whole.append(index)
            hidden = is_hidden(archive.rows[index].flags)
            pictures.append(cell(np.zeros_like(image) if hidden else image))
            yield image

    vectors = embed_images(encoder, pixels(), device=device)
    return Embedded(np.array(whole, dtype=np.int64), vectors, np.reshape(pictures, (-1, CELL, CELL)).astype(np.uint8))


def _write(path: Path, part: Embedded) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, indices=part.indices, vectors=part.vectors, pictures=part.pictures)


def _read(path: Path) -> Embedded | None:
    """A block, or None if it is not there or not as it was written; zip files have a checksum of each member."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return Embedded(content["indices"], content["vectors"], content["pictures"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
