"""Groups of images by the prototype that is nearest, or where a run has none, by k-means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from scoutview.metrics import nearest_centres, unit_vectors
from scoutview.pretraining import TrainedPrototypes

SHOWN = 12
"""Images nearest to each prototype that are named."""
MOST_CLUSTERS = 64


def galleries_of(
    modalities: Sequence[str], vectors: npt.NDArray[np.float32], prototypes: TrainedPrototypes | str
) -> list[dict[str, Any]]:
    """A gallery per modality, or one of the modalities that share prototypes; in each the largest group comes first.

    modalities [image]; vectors [image, feature]; prototypes: or why there are none. Images are named by their number.
    A gallery's `members` lists its images, with the prototype and the cosine to it in `assigned` and `cosines`.
    """
    members: dict[str, list[int]] = {}
    for number, modality in enumerate(modalities):
        key = None if isinstance(prototypes, str) else prototypes.of(modality)
        members.setdefault(key or modality, []).append(number)
    return [_gallery(name, np.array(mine), vectors, prototypes) for name, mine in members.items()]


def _gallery(
    name: str, mine: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32], prototypes: TrainedPrototypes | str
) -> dict[str, Any]:
    features = vectors[mine]
    if isinstance(prototypes, str) or name not in prototypes.matrices:
        missing = prototypes if isinstance(prototypes, str) else "The run has not learnt from this modality."
        unit = unit_vectors(features)
        kind, why, points, centres = "k-means", missing, unit, cluster_centres(unit)
    else:
        kind, why = "prototypes", ""
        points, centres = unit_vectors(prototypes.project(features)), prototypes.matrices[name].astype(np.float64)
    assigned, cosines = nearest_centres(points, centres)
    counts = np.bincount(assigned, minlength=len(centres))
    groups = []
    for number in np.argsort(-counts, kind="stable"):
        inside = np.flatnonzero(assigned == number)
        if len(inside):
            nearest = inside[np.argsort(-cosines[inside], kind="stable")][:SHOWN]
            groups.append(
                {
                    "number": int(number),
                    "images": len(inside),
                    "nearest": mine[nearest].tolist(),
                    "cosines": cosines[nearest].round(4).tolist(),
                }
            )
    return {
        "name": name,
        "kind": kind,
        "why": why,
        "count": len(centres),
        "images": len(mine),
        "groups": groups,
        "members": mine.tolist(),
        "assigned": assigned.tolist(),
        "cosines": cosines.round(4).tolist(),
    }


def cluster_centres(unit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centres [K, feature] of k-means, seed 0, K about the root of half the images and 64 at most."""
    count = max(1, min(MOST_CLUSTERS, round((len(unit) / 2) ** 0.5)))
    centres: npt.NDArray[np.float64] = KMeans(count, n_init=1, random_state=0).fit(unit).cluster_centers_
    return centres
