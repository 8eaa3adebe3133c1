"""`scoutview atlas`: what an archive holds, as one page of pictures."""

from __future__ import annotations

import json as encoding
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive
from scoutview.commands.atlas_embeddings import embedded, is_hidden
from scoutview.commands.atlas_groups import galleries_of
from scoutview.commands.atlas_lists import near_duplicates_of, outliers_of, write_list
from scoutview.commands.atlas_map import plane
from scoutview.commands.sources import find_encoder
from scoutview.errors import RunError, UsageError
from scoutview.files import finite, write_text
from scoutview.metrics import nearest_neighbours, unit_vectors
from scoutview.pretraining import TrainedPrototypes, trained_prototypes
from scoutview.report import write_atlas_page
from scoutview.store import ImageRow
from scoutview.training import device

NEIGHBOURS = 12
MOST_LABELS = 40
"""Labels by which the map can be coloured: those of most images."""


def atlas(run: str, store: Path, *, out: Path, most: int = 20_000) -> Path:
    """Show what an archive holds: prototypes as rows of pictures, a map, outliers and images that look alike.

    Running the same command again continues an interrupted one; features are kept in the folder.

    Args:
        run: Run folder, whose prototypes are shown; or an encoder file, published weights or none, with k-means.
        store: Folder of a store.
        out: Folder for atlas.html, atlas.json, outliers.csv and near_duplicates.csv.
        most: Most images; of a larger store they are taken evenly from all of its series.

    Returns:
        The page.

    Raises:
        UsageError: No such encoder or store, or an encoder of volumes.
        RunError: The newest checkpoint or a table of the store is damaged, or no image can be read.
    """
    if most < 1:
        raise UsageError(f"--most {most} must be 1 or more")
    archive = Archive.open([store])
    encoder = find_encoder(run)
    if encoder.network.spatial_dims == 3:
        raise UsageError(f"{run} is an encoder of volumes, and an atlas shows images: give an encoder of images")
    prototypes = trained_prototypes(Path(run), encoder)
    total = len(archive.rows)
    if most < total:
        archive = archive.only([number * total // most for number in range(most)])
    images = embedded(archive, encoder, out / "features", device())
    if not len(images.indices):
        raise RunError(f"all {len(archive.rows)} images of {store} are damaged: run scoutview fsck {store}")
    damaged = sorted({*range(len(archive.rows))} - {*images.indices.tolist()})
    rows = [archive.rows[index] for index in images.indices.tolist()]
    content = {
        "encoder": {"name": encoder.name, "run": Path(run).name},
        "store": {"name": archive.stores[0].path.resolve().name, "snapshot": archive.stores[0].snapshot()},
        "images_in_store": total,
        "damaged": [archive.rows[index].image for index in damaged],
        "columns": columns_of(archive, images.indices, rows),
        **content_of(rows, images.vectors, prototypes),
        "near_duplicates": near_duplicates_of(archive.stores[0], rows),
    }
    write_lists(out, rows, content)
    write_text(out / "atlas.json", encoding.dumps(finite(content), allow_nan=False) + "\n")
    page = write_atlas_page(out / "atlas.html", content, images.pictures)
    print(f"{len(rows)} images, {len(content['outliers'])} outliers, {len(content['near_duplicates']['pairs'])} pairs")
    print(f"page: {page}")
    return page


def content_of(
    rows: Sequence[ImageRow], vectors: npt.NDArray[np.float32], prototypes: TrainedPrototypes | str
) -> dict[str, Any]:
    """What features [image, feature] say: groups, map, neighbours, outliers."""
    modalities = [row.modality for row in rows]
    unit = unit_vectors(vectors)
    neighbours, cosines = nearest_neighbours(unit, NEIGHBOURS)
    density = cosines.mean(axis=1) if cosines.size else np.ones(len(rows))
    places, method = plane(unit)
    galleries = galleries_of(modalities, vectors, prototypes)
    closeness = np.zeros(len(rows))
    for gallery in galleries:
        closeness[gallery["members"]] = gallery["cosines"]
    return {
        "images": {
            "image": [row.image for row in rows],
            "pixel_sha256": [row.pixel_sha256 for row in rows],
            "hidden": [number for number, row in enumerate(rows) if is_hidden(row.flags)],
            "x": places[:, 0].round(5).tolist(),
            "y": places[:, 1].round(5).tolist(),
            "neighbours": neighbours.tolist(),
            "cosines": cosines.round(4).tolist(),
            "density": density.round(4).tolist(),
        },
        "map": method,
        "galleries": galleries,
        "outliers": outliers_of(modalities, density, closeness),
    }


def columns_of(
    archive: Archive, indices: npt.NDArray[np.int64], rows: Sequence[ImageRow]
) -> dict[str, list[str | None]]:
    """What the map can be coloured by: name -> value of each image, None where it is not known."""
    splits = {index: split for split in ("train", "validation", "test") for index in archive.indices(splits=(split,))}
    columns: dict[str, list[str | None]] = {
        "modality": [row.modality for row in rows],
        "split": [splits[index] for index in indices.tolist()],
        "manufacturer": [row.manufacturer or None for row in rows],
        "body part": [row.body_part or None for row in rows],
    }
    labels = {name: [values.get(row.image) for row in rows] for name, values in archive.labels.items()}
    counts = Counter({name: sum(value is not None for value in values) for name, values in labels.items()})
    for name, _ in counts.most_common(MOST_LABELS):
        columns[f"label: {name}"] = labels[name]
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def write_lists(out: Path, rows: Sequence[ImageRow], content: Mapping[str, Any]) -> None:
    """outliers.csv and near_duplicates.csv."""
    write_list(
        out / "outliers.csv",
        rows,
        {
            entry["image"]: {
                "measures": " ".join(entry["measures"]),
                "density": entry["density"],
                "closeness": entry["closeness"],
            }
            for entry in content["outliers"]
        },
    )
    leaves = content["near_duplicates"]["left_out"]
    write_list(
        out / "near_duplicates.csv", rows, {entry["image"]: {"like": rows[entry["like"]].image} for entry in leaves}
    )
