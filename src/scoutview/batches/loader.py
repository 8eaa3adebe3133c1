"""torch's DataLoader over the plan: workers draw parameters, read what these need, check, decode, transform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from scoutview.batches.archive import Archive
from scoutview.batches.kept import Kept
from scoutview.batches.reading import coarsest_level, read_unit_image
from scoutview.batches.sampler import BatchPlan, Draw
from scoutview.batches.shared import batch_memory
from scoutview.batches.workers import batch_loader
from scoutview.images import Spectrum
from scoutview.preprocessing import Preprocessing
from scoutview.store import DamagedRecordError, IndexRow, Store
from scoutview.views import (
    ReferenceEnergies,
    ViewBatch,
    ViewParameters,
    ViewSettings,
    draw_parameters,
    draw_scale,
    largest_scale,
    needed_frequencies,
    on_reduced,
    read_level,
    reduced_coefficients,
)

KEPT_BYTES = 2 * 2**30
"""Memory for transformed images, per loader process."""


@dataclass(frozen=True)
class Transformed:
    """An image as views need it: shape [row, column] of the read in px, its DCT coefficients, the image's spectrum."""

    shape: tuple[int, int]
    coefficients: npt.NDArray[np.float32]
    spectrum: Spectrum


@dataclass(frozen=True)
class ViewSample:
    """One image on its way into a batch: DCT coefficients [row frequency, column frequency] and view parameters.

    shape, coefficients and parameters are those of the read, which may be a reduced one. damaged: what was wrong with
    the images in whose place this one is.
    """

    draw: Draw
    shape: tuple[int, int]
    coefficients: npt.NDArray[np.float32]
    parameters: ViewParameters
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingBatch:
    """A rank's part of a global batch. index, position [image]: see `Draw`; modality [image]: number in the plan.

    damaged: one line for each image that was replaced by another of its lane.
    """

    step: int
    views: ViewBatch
    index: Tensor
    position: Tensor
    modality: Tensor
    damaged: tuple[str, ...] = ()

    def pin_memory(self) -> TrainingBatch:
        """The same batch in memory from which a GPU copies by itself."""
        return replace(self, views=self.views.pin_memory())


@dataclass(frozen=True)
class ViewDataset(Dataset[ViewSample]):
    """Maps a `Draw` to a `ViewSample`; picklable, and without open handles.

    The largest view that is drawn for an image decides at which resolution it is read. What views need of a read is
    kept in memory, up to KEPT_BYTES, so that the images of a small archive are read and transformed once and not in
    every epoch. kept maps (index, level) to it.
    """

    archive: Archive
    preprocessing: Preprocessing
    settings: ViewSettings
    references: dict[str, ReferenceEnergies]
    seed: int
    kept: Kept[Transformed] = field(default_factory=lambda: Kept(KEPT_BYTES))

    def __getitem__(self, draw: Any) -> ViewSample:
        """Read the image of a draw, or in its place the first of its spares that is whole.

        Raises:
            DamagedRecordError: if none is.
        """
        damaged: list[str] = []
        for index in (draw.index, *draw.spares):
            try:
                return self._sample(Draw(draw.step, draw.position, index), tuple(damaged))
            except DamagedRecordError as error:
                damaged.append(str(error))
        raise DamagedRecordError(damaged[0])

    def _sample(self, draw: Draw, damaged: tuple[str, ...]) -> ViewSample:
        _, row = self.archive.place(draw.index)
        key = {"seed": self.seed, "step": draw.step, "position": draw.position}
        native = (row.rows, row.columns)
        level = self.level(draw, row)
        image = self.kept.values.get((draw.index, level)) or self._transformed(draw.index, level, native)
        references = self.references[row.modality]
        parameters = on_reduced(
            draw_parameters(self.settings, native, image.spectrum, references, **key, level=level), level
        )
        rows, columns = needed_frequencies(image.shape, float(parameters.scale.max()))
        return ViewSample(draw, image.shape, image.coefficients[:rows, :columns], parameters, damaged)

    def level(self, draw: Draw, row: IndexRow) -> int:
        """The resolution level at which the image of a draw is read."""
        native = (row.rows, row.columns)
        scale = draw_scale(self.settings, native, seed=self.seed, step=draw.step, position=draw.position)
        return read_level(native, scale, coarsest_level(row, self.preprocessing))

    def fetch(self, draws: Sequence[Draw]) -> None:
        """Have what a batch needs of stores in buckets here soon."""
        wanted: dict[int, tuple[Store, list[tuple[IndexRow, int]]]] = {}
        for draw in draws:
            store, row = self.archive.place(draw.index)
            level = self.level(draw, row)
            if (draw.index, level) not in self.kept.values:
                wanted.setdefault(id(store), (store, []))[1].append((row, level))
        for store, rows in wanted.values():
            store.fetch(rows)

    def _transformed(self, index: int, level: int, native: tuple[int, int]) -> Transformed:
        image, spectrum = read_unit_image(self.archive, index, self.preprocessing, level)
        shape = (image.shape[0], image.shape[1])
        keep = needed_frequencies(shape, largest_scale(self.settings, native) * 2**level)
        value = Transformed(shape, reduced_coefficients(image, level, keep), spectrum)
        self.kept.offer((index, level), value, value.coefficients.nbytes)
        return value


def collate_views(samples: list[ViewSample], share: int) -> TrainingBatch:
    """Stack samples; coefficients are zero-padded to the largest of the batch, which adds frequencies that are 0."""
    rows = max(sample.coefficients.shape[0] for sample in samples)
    columns = max(sample.coefficients.shape[1] for sample in samples)
    coefficients = batch_memory(len(samples), rows, columns)
    for number, sample in enumerate(samples):
        height, width = sample.coefficients.shape
        coefficients[number, :height, :width] = torch.from_numpy(sample.coefficients)
        coefficients[number, :height, width:] = 0.0
        coefficients[number, height:] = 0.0
    names = ("scale", "top", "left", "bands", "gamma", "gain", "bias")
    stacked = {
        name: torch.from_numpy(np.stack([getattr(sample.parameters, name) for sample in samples])) for name in names
    }
    shape = torch.tensor([sample.shape for sample in samples], dtype=torch.float32)
    position = torch.tensor([sample.draw.position for sample in samples])
    return TrainingBatch(
        step=samples[0].draw.step,
        views=ViewBatch(coefficients=coefficients, shape=shape, **stacked),
        index=torch.tensor([sample.draw.index for sample in samples]),
        position=position,
        modality=position // share,
        damaged=tuple(message for sample in samples for message in sample.damaged),
    )


def view_loader(
    dataset: ViewDataset, plan: BatchPlan, first: int, last: int, *, rank: int, ranks: int, workers: int
) -> Iterator[TrainingBatch]:
    """Iterate over a rank's batches of steps first, ..., last - 1; see `batch_loader`."""
    read = partial(_read_views, dataset, plan.share)
    fetch = dataset.fetch if dataset.archive.is_remote else None
    return batch_loader(read, plan, first, last, rank=rank, ranks=ranks, workers=workers, fetch=fetch)


def _read_views(dataset: ViewDataset, share: int, draws: list[Draw]) -> TrainingBatch:
    return collate_views([dataset[draw] for draw in draws], share)
