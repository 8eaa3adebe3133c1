"""Several stores seen as one list of images, with their splits and labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from scoutview.errors import UsageError
from scoutview.images import MODALITIES
from scoutview.store import ImageRow, Store, image_labels, read_annotations, split_of
from scoutview.views import ReferenceEnergies

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Archive:
    """Images of one or more stores, sorted by modality and image id; an image in two stores counts once.

    rows[i] is stored in stores[store_of[i]]; split_of maps image ids to "train", "validation" or "test";
    labels maps label name -> image id -> value.
    """

    stores: tuple[Store, ...]
    rows: tuple[ImageRow, ...]
    store_of: tuple[int, ...]
    splits: dict[str, str]
    labels: dict[str, dict[str, str]]

    @classmethod
    def open(cls, paths: Sequence[Path | str]) -> Self:
        """Open stores.

        Raises:
            UsageError: if a folder is no store, or none of them holds an image.
        """
        stores = tuple(Store.open(path) for path in paths)
        found: dict[str, tuple[int, ImageRow]] = {}
        splits: dict[str, str] = {}
        labels: dict[str, dict[str, str]] = {}
        for number, store in enumerate(stores):
            rows = store.rows()
            annotations = read_annotations(store)
            for row in rows:
                found.setdefault(row.image, (number, row))
            splits.update(split_of(rows, annotations))
            for name, values in image_labels(annotations, rows).items():
                labels.setdefault(name, {}).update(values)
        if not found:
            names = ", ".join(str(path) for path in paths)
            raise UsageError(f"{names} holds no image: take some in with scoutview ingest")
        order = sorted(found.values(), key=lambda entry: (MODALITIES.index(entry[1].modality), entry[1].image))
        return cls(stores, tuple(row for _, row in order), tuple(number for number, _ in order), splits, labels)

    def store(self, index: int) -> Store:
        """The store that holds image `index`."""
        return self.stores[self.store_of[index]]

    def indices(self, modality: str | None = None, splits: Collection[str] = SPLITS) -> list[int]:
        """Indices of the images of a modality (all when None) in the given splits, ascending."""
        return [
            index
            for index, row in enumerate(self.rows)
            if modality in (None, row.modality) and self.splits[row.image] in splits
        ]

    def modalities(self, splits: Collection[str] = SPLITS) -> list[str]:
        """The modalities with at least one image in the given splits, in the order of MODALITIES."""
        present = {self.rows[index].modality for index in self.indices(splits=splits)}
        return [modality for modality in MODALITIES if modality in present]

    def patients(self, indices: Sequence[int]) -> npt.NDArray[np.str_]:
        """Patient keys [image]."""
        return np.array([self.rows[index].patient for index in indices], dtype=np.str_)

    def labelled(self, name: str, splits: Collection[str] = SPLITS) -> list[int]:
        """Indices of the images of the given splits for which label `name` is known.

        Raises:
            UsageError: if no image has that label; the message lists the labels there are.
        """
        if name not in self.labels:
            known = ", ".join(sorted(self.labels)) or "none: add some with scoutview label"
            raise UsageError(f"no image has a label {name!r}; labels in the store: {known}")
        return [index for index in self.indices(splits=splits) if self.rows[index].image in self.labels[name]]

    def label_values(self, name: str, indices: Sequence[int]) -> list[str]:
        """The values of label `name` of images that have it."""
        return [self.labels[name][self.rows[index].image] for index in indices]

    def reference_energies(self, modality: str, preprocessing: str) -> ReferenceEnergies:
        """Mean and spread of the band energies of a modality, pooled over the stores by their reference images.

        Raises:
            UsageError: if no store has them for this preprocessing.
        """
        entries = [store.reference_energies.get(modality) for store in self.stores]
        usable: list[dict[str, Any]] = [
            entry for entry in entries if entry is not None and entry["preprocessing"] == preprocessing
        ]
        if not usable:
            raise UsageError(
                f"no store has reference energies of {modality} for this preprocessing ({preprocessing}): "
                "run scoutview ingest on it again, which computes them"
            )
        weights = np.array([entry["images"] for entry in usable], dtype=np.float64)
        weights /= weights.sum()
        means = np.array([entry["mean"] for entry in usable])
        deviations = np.array([entry["deviation"] for entry in usable])
        mean = np.tensordot(weights, means, 1)
        variance = np.tensordot(weights, deviations**2 + means**2, 1) - mean**2
        return ReferenceEnergies(
            np.asarray(usable[0]["short_sides"], dtype=np.float64), mean, np.sqrt(np.maximum(variance, 0.0))
        )
