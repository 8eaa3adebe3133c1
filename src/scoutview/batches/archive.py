"""Several stores seen as one list of images, with their splits and labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from scoutview.batches.rows import Rows, Segment
from scoutview.batches.selection import Joined, Numbers, Selection
from scoutview.errors import UsageError
from scoutview.images import MODALITIES
from scoutview.store import (
    SPLITS,
    IndexRow,
    Store,
    image_labels,
    open_index,
    passing_rows,
    read_annotations,
    rows_about,
    split_of,
    text_hash,
)
from scoutview.views import ReferenceEnergies


@dataclass(frozen=True)
class Archive:
    """Images of one or more stores, by modality, then store, then series; an image in two stores counts once.

    What is read of each image is mapped from the index of its store, so that any number of images takes no memory.
    """

    stores: tuple[Store, ...]
    segments: tuple[Segment, ...]
    unit: ClassVar[str] = "image"

    @classmethod
    def open(cls, paths: Sequence[Path | str]) -> Self:
        """Open stores.

        Raises:
            UsageError: if a folder is no store, or none of them holds an image.
            RunError: if a catalog is damaged.
        """
        stores = tuple(Store.open(path) for path in paths)
        indexes = [open_index(store) for store in stores]
        segments: list[Segment] = []
        for modality in MODALITIES:
            held: list[Segment] = []
            for number, index in enumerate(indexes):
                if modality in index.ranges:
                    segment = Segment(modality, number, index, *index.ranges[modality])
                    held.append(segment.without_copies_of(held, stores))
            segments += [segment for segment in held if len(segment)]
        if not segments:
            names = ", ".join(str(path) for path in paths)
            raise UsageError(f"{names} holds no image: take some in with scoutview ingest")
        return cls(stores, tuple(segments))

    def __getstate__(self) -> dict[str, Any]:
        """Without labels and splits, which a loader process does not need."""
        return {"stores": self.stores, "segments": self.segments}

    @property
    def is_remote(self) -> bool:
        """Whether a store lies in a bucket."""
        return any(store.blocks is not None for store in self.stores)

    @cached_property
    def starts(self) -> Numbers:
        """Archive index of the first image of each segment, and the number of images."""
        return np.cumsum([0, *(len(segment) for segment in self.segments)])

    @cached_property
    def rows(self) -> Rows:
        """The catalog rows of the images, read when asked for."""
        return Rows(self.stores, self.segments)

    def place(self, index: int) -> tuple[Store, IndexRow]:
        """The store of image `index`, and what reading it needs."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        segment = self.segments[number]
        return self.stores[segment.store], segment.index.row(segment.number(index - int(self.starts[number])))

    def modality_of(self, index: int) -> str:
        """The modality of image `index`."""
        return self.segments[int(np.searchsorted(self.starts, index, side="right")) - 1].modality

    def store(self, index: int) -> Store:
        """The store that holds image `index`."""
        return self.place(index)[0]

    @cached_property
    def labels(self) -> dict[str, dict[str, str]]:
        """label name -> image id -> value. Of the catalog, only what labels speak of is read.

        Raises:
            RunError: if annotations or the catalog are damaged.
        """
        labels: dict[str, dict[str, str]] = {}
        for store in self.stores:
            annotations = [entry for entry in read_annotations(store) if entry.kind == "label"]
            rows = rows_about(store, {entry.target for entry in annotations})
            for name, values in image_labels(annotations, rows).items():
                labels.setdefault(name, {}).update(values)
        return labels

    def label(self, name: str) -> dict[str, str]:
        """image id -> value of label `name`.

        Raises:
            UsageError: if no image has that label; the message lists the labels there are.
        """
        if name not in self.labels:
            known = ", ".join(sorted(self.labels)) or "none: add some with scoutview label"
            raise UsageError(f"no image has a label {name!r}; labels in the store: {known}")
        return self.labels[name]

    @cached_property
    def splits(self) -> tuple[npt.NDArray[np.uint8], ...]:
        """Number in SPLITS of every image of each store's index: what annotations say, else what ingest set."""
        splits: dict[int, npt.NDArray[np.uint8]] = {}
        for segment in self.segments:
            if segment.store in splits:
                continue
            splits[segment.store] = segment.index.split
            store = self.stores[segment.store]
            annotations = [entry for entry in read_annotations(store) if entry.kind == "split"]
            said = split_of(rows_about(store, {entry.target for entry in annotations}), annotations)
            if said:
                changed = np.array(segment.index.split)
                places, values = _places_of(segment.index.image, said)
                changed[places] = [SPLITS.index(value) for value in values]
                splits[segment.store] = changed
        return tuple(splits.get(number, np.zeros(0, np.uint8)) for number in range(len(self.stores)))

    def select(self, splits: Collection[str] = SPLITS, where: str | None = None) -> dict[str, Selection]:
        """modality -> its images in the given splits that pass the SQL expression; modalities without any are left out.

        Raises:
            UsageError: if the expression is wrong (see `passing_rows`), or no image is left.
        """
        passing = [passing_rows(store, where) if where else None for store in self.stores]
        selections = {}
        for modality in dict.fromkeys(segment.modality for segment in self.segments):
            mine = [number for number, segment in enumerate(self.segments) if segment.modality == modality]
            parts = [self.segments[number] for number in mine]
            flags = [self._chosen(part, splits) for part in parts]
            for part, flag in zip(parts, flags, strict=True):
                rows = passing[part.store]
                if rows is not None:
                    flag &= rows[part.column(part.index.row_number)]
            columns = [part.column(part.index.series) for part in parts]
            added = np.cumsum([0, *(int(column[-1]) + 1 for column in columns)])
            series = Joined.of(columns, added.tolist())
            selection = Selection.of(np.concatenate(flags), series, int(self.starts[mine[0]]))
            if len(selection):
                selections[modality] = selection
        if not selections:
            asked = f"the splits {', '.join(splits)}" + (f" and where {where!r}" if where else "")
            raise UsageError(f"no image is left by {asked}: scoutview inspect shows what there is")
        return selections

    def _chosen(self, segment: Segment, splits: Collection[str]) -> npt.NDArray[np.bool_]:
        """Flags [image of the segment]."""
        wanted = np.array([name in splits for name in SPLITS])
        flags: npt.NDArray[np.bool_] = wanted[segment.column(self.splits[segment.store])]
        return flags

    def only(self, indices: Sequence[int]) -> Archive:
        """The archive with some of its images; indices ascend."""
        kept = np.asarray(indices)
        segments = []
        for segment, first, last in zip(self.segments, self.starts, self.starts[1:], strict=False):
            mine = kept[(kept >= first) & (kept < last)] - first
            segments += [replace(segment, kept=segment.numbers(mine))] if len(mine) else []
        return Archive(self.stores, tuple(segments))

    def indices(self, modality: str | None = None, splits: Collection[str] = SPLITS) -> list[int]:
        """Indices of the images of a modality (all when None) in the given splits, ascending."""
        found = [
            np.flatnonzero(self._chosen(segment, splits)) + start
            for segment, start in zip(self.segments, self.starts, strict=False)
            if modality in (None, segment.modality)
        ]
        return [index for part in found for index in part.tolist()]

    def modalities(self, splits: Collection[str] = SPLITS) -> list[str]:
        """The modalities with at least one image in the given splits, in the order of MODALITIES."""
        present = [segment.modality for segment in self.segments if self._chosen(segment, splits).any()]
        return list(dict.fromkeys(present))

    def patients(self, indices: Sequence[int]) -> npt.NDArray[np.str_]:
        """Patient keys [image]."""
        return np.array([self.rows[index].patient for index in indices], dtype=np.str_)

    def labelled(self, name: str, splits: Collection[str] = SPLITS) -> list[int]:
        """Indices of the images of the given splits for which label `name` is known.

        Raises:
            UsageError: if no image has that label; the message lists the labels there are.
        """
        return self.find(self.label(name), splits)

    def find(self, images: Iterable[str], splits: Collection[str] = SPLITS) -> list[int]:
        """Indices of those of the images with these ids that are here and in the given splits, ascending."""
        wanted = text_hash(list(images))
        indices: list[int] = []
        for segment, start in zip(self.segments, self.starts, strict=False):
            found = np.isin(segment.column(segment.index.image), wanted) & self._chosen(segment, splits)
            indices += (np.flatnonzero(found) + int(start)).tolist()
        return indices

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


def _places_of(hashes: npt.NDArray[np.uint64], values: Mapping[str, str]) -> tuple[Numbers, Iterable[str]]:
    """(ascending places of the images of `values` among those with these hashes, the value of each)."""
    images = list(values)
    wanted = text_hash(images)
    order = np.argsort(wanted)
    places = np.flatnonzero(np.isin(hashes, wanted))
    which = order[np.searchsorted(wanted, hashes[places], sorter=order)]
    return places, [values[images[number]] for number in which.tolist()]
