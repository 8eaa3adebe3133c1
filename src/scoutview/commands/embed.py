"""`scoutview embed`: one vector per image, or per volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scoutview.commands.sources import find_encoder, source_images, source_volumes
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
    """Write one feature vector per image as Parquet, or per volume of a store if the encoder is one of volumes.

    Args:
        encoder: Run folder, encoder file, published ResNet weights, or none for an untrained network.
        source: A store, a file, or a folder of files; a store for an encoder of volumes.
        out: Parquet file to write, with columns id (of a volume that of its first slice), modality, patient, embedding.
        modality: What files show that do not say so themselves.

    Returns:
        The file that was written.

    Raises:
        UsageError: No such encoder or source.
    """
    network = find_encoder(encoder)
    ids: list[tuple[str, str, str]] = []
    if network.network.spatial_dims == 3:
        images = source_volumes(source, network)
    else:
        images = source_images(source, network.preprocessing, modality)

    def pixels() -> Iterator[npt.NDArray[np.float32]]:
        for image in images:
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
