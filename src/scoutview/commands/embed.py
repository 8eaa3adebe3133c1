"""`scoutview embed`: one vector per image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scoutview.commands.sources import find_encoder, source_images
from scoutview.encoders import embed_images
from scoutview.store.catalog import write_parquet
from scoutview.training import device


def embed(
    encoder: str,
    source: Path,
    *,
    out: Path,
    modality: Literal["xray", "ct", "mr", "us"] | None = None,
) -> Path:
    """Write one feature vector per image as Parquet.

    Args:
        encoder: Run folder, encoder file, published ResNet weights, or none for an untrained network.
        source: A store, a file, or a folder of files.
        out: Parquet file to write, with columns id, modality, patient, embedding.
        modality: What files show that do not say so themselves.

    Returns:
        The file that was written.

    Raises:
        UsageError: No such encoder or source.
    """
    network = find_encoder(encoder)
    ids: list[tuple[str, str, str]] = []

    def pixels() -> Iterator[npt.NDArray[np.float32]]:
        for image in source_images(source, network.preprocessing, modality):
            ids.append((image.image, image.modality, image.patient))
            yield image.pixels

    vectors = embed_images(network, pixels(), device=device())
    table = pa.table(
        {
            "id": [entry[0] for entry in ids],
            "modality": [entry[1] for entry in ids],
            "patient": [entry[2] for entry in ids],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )
    write_parquet(table, out)
    print(f"{len(ids)} vectors of {vectors.shape[1]} numbers: {out}")
    return out
