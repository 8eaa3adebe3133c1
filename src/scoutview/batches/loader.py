"""torch's DataLoader over the plan: workers read, check, decode, preprocess, draw parameters, transform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scoutview.batches.archive import Archive
from scoutview.batches.reading import read_unit_image
from scoutview.batches.sampler import BatchPlan, Draw
from scoutview.images import Spectrum
from scoutview.preprocessing import Preprocessing
from scoutview.views import (
    ReferenceEnergies,
    ViewBatch,
    ViewParameters,
    ViewSettings,
    draw_parameters,
    image_coefficients,
    largest_scale,
    needed_frequencies,
)

KEPT_BYTES = 2 * 2**30
"""Memory for transformed images, per loader process."""

Transformed = tuple[tuple[int, int], npt.NDArray[np.float32], Spectrum]


@dataclass(frozen=True)
class ViewSample:
    """One image on its way into a batch: DCT coefficients [row frequency, column frequency] and view parameters."""

    draw: Draw
    shape: tuple[int, int]
    coefficients: npt.NDArray[np.float32]
    parameters: ViewParameters


@dataclass(frozen=True)
class TrainingBatch:
    """A rank's part of a global batch. index, position [image]: see `Draw`; modality [image]: number in the plan."""

    step: int
    views: ViewBatch
    index: Tensor
    position: Tensor
    modality: Tensor


@dataclass(frozen=True)
class ViewDataset(Dataset[ViewSample]):
    """Maps a `Draw` to a `ViewSample`; picklable, and without open handles.

    What views of an image need of it is kept in memory, up to KEPT_BYTES, so that the images of a small archive are
    read and transformed once and not in every epoch. kept maps an index to (shape, coefficients, spectrum).
    """

    archive: Archive
    preprocessing: Preprocessing
    settings: ViewSettings
    references: dict[str, ReferenceEnergies]
    seed: int
    kept: dict[int, Transformed] = field(default_factory=dict)

    def __getitem__(self, draw: Any) -> ViewSample:
        shape, coefficients, spectrum = self.kept.get(draw.index) or self._transformed(draw.index)
        parameters = draw_parameters(
            self.settings,
            shape,
            spectrum,
            self.references[self.archive.modality_of(draw.index)],
            seed=self.seed,
            step=draw.step,
            position=draw.position,
        )
        rows, columns = needed_frequencies(shape, float(parameters.scale.max()))
        return ViewSample(draw, shape, coefficients[:rows, :columns], parameters)

    def _transformed(self, index: int) -> Transformed:
        image, spectrum = read_unit_image(self.archive, index, self.preprocessing)
        shape = (image.shape[0], image.shape[1])
        frequencies = needed_frequencies(shape, largest_scale(self.settings, shape))
        value = (shape, image_coefficients(image, frequencies), spectrum)
        # Images differ in size, so this is a bound for alike ones and close to it for others.
        if (len(self.kept) + 1) * value[1].nbytes <= KEPT_BYTES:
            self.kept[index] = value
        return value


def collate_views(samples: list[ViewSample], share: int) -> TrainingBatch:
    """Stack samples; coefficients are zero-padded to the largest of the batch, which adds frequencies that are 0."""
    rows = max(sample.coefficients.shape[0] for sample in samples)
    columns = max(sample.coefficients.shape[1] for sample in samples)
    coefficients = torch.zeros(len(samples), rows, columns)
    for number, sample in enumerate(samples):
        height, width = sample.coefficients.shape
        coefficients[number, :height, :width] = torch.from_numpy(sample.coefficients)
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
    )


@dataclass(frozen=True)
class _Collate:
    share: int

    def __call__(self, samples: list[ViewSample]) -> TrainingBatch:
        return collate_views(samples, self.share)


def view_loader(
    dataset: ViewDataset, plan: BatchPlan, first: int, last: int, *, rank: int, ranks: int, workers: int
) -> Iterator[TrainingBatch]:
    """Iterate over a rank's batches of steps first, ..., last - 1. Workers are spawned, and read ahead."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=_Batches(plan, first, last, rank, ranks),
        collate_fn=_Collate(plan.share),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=3 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


@dataclass(frozen=True)
class _Batches:
    """What DataLoader calls a batch sampler: re-iterable, with a length."""

    plan: BatchPlan
    first: int
    last: int
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.plan.batches(self.first, self.last, self.rank, self.ranks)

    def __len__(self) -> int:
        return self.last - self.first
