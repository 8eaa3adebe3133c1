"""torch's DataLoader over the plan: workers draw parameters, read what these need, check, decode, transform."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

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
    Canvas,
    ReferenceEnergies,
    ViewBatch,
    ViewParameters,
    ViewSettings,
    VolumeBatch,
    VolumeDepth,
    canvas_of,
    draw_parameters,
    draw_scale,
    layout,
    on_reduced,
    read_level,
)

KEPT_BYTES = 2 * 2**30
"""Memory for transformed images, per loader process."""


@dataclass(frozen=True)
class ViewSample:
    """One image or volume on its way into a batch: its canvas and view parameters.

    Both are those of the read, which is one at 1 / 2^level resolution. damaged: what was wrong with the images in whose
    place this one is.
    """

    draw: Draw
    canvas: Canvas
    parameters: ViewParameters
    level: int = 0
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingBatch:
    """A rank's part of a global batch. index, position [image]: see `Draw`.

    damaged: one line for each image that was replaced by another of its lane.
    """

    step: int
    views: ViewBatch
    index: Tensor
    position: Tensor
    damaged: tuple[str, ...] = ()

    def pin_memory(self) -> TrainingBatch:
        """The same batch in memory from which a GPU copies by itself."""
        return replace(self, views=self.views.pin_memory())


def first_whole(
    draw: Draw, sample: Callable[[Draw, tuple[str, ...]], ViewSample], *failures: type[Exception]
) -> ViewSample:
    """The sample of a draw, or of the first of its spares for which making it does not fail.

    sample: makes it, given what was wrong with those before.

    Raises:
        DamagedRecordError: if all fail.
    """
    damaged: list[str] = []
    for index in (draw.index, *draw.spares):
        try:
            return sample(Draw(draw.step, draw.position, index), tuple(damaged))
        except failures as error:
            damaged.append(str(error))
    raise DamagedRecordError(damaged[0])


@dataclass(frozen=True)
class ViewDataset(Dataset[ViewSample]):
    """Maps a `Draw` to a `ViewSample`; picklable, and without open handles.

    The largest view that is drawn for an image decides at which resolution it is read. Canvases are kept in memory, up
    to KEPT_BYTES, so that the images of a small archive are read and decoded once and not in every epoch. kept maps
    (index, level) to a canvas and the spectrum of the image.
    """

    archive: Archive
    preprocessing: Preprocessing
    settings: ViewSettings
    references: dict[str, ReferenceEnergies]
    seed: int
    kept: Kept[tuple[Canvas, Spectrum]] = field(default_factory=lambda: Kept(KEPT_BYTES))

    def __getitem__(self, draw: Any) -> ViewSample:
        """Read the image of a draw, or in its place the first of its spares that is whole.

        Raises:
            DamagedRecordError: if none is.
        """
        return first_whole(draw, self._sample, DamagedRecordError)

    def _sample(self, draw: Draw, damaged: tuple[str, ...]) -> ViewSample:
        _, row = self.archive.place(draw.index)
        key = {"seed": self.seed, "step": draw.step, "position": draw.position}
        native = (row.rows, row.columns)
        level = self.level(draw, row)
        canvas, spectrum = self.kept.values.get((draw.index, level)) or self._read(draw.index, level)
        references = self.references[row.modality]
        parameters = draw_parameters(self.settings, native, spectrum, references, **key, level=level)
        return ViewSample(draw, canvas, on_reduced(parameters, level), level, damaged)

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

    def _read(self, index: int, level: int) -> tuple[Canvas, Spectrum]:
        image, spectrum = read_unit_image(self.archive, index, self.preprocessing, level)
        canvas = canvas_of(image)
        self.kept.offer((index, level), (canvas, spectrum), canvas.pixels.nbytes)
        return canvas, spectrum


def collate_views(samples: list[ViewSample]) -> TrainingBatch:
    """One batch of samples: canvases of any size one after the other."""
    starts, widths = layout([plane for sample in samples for plane in sample.canvas.planes])
    pixels = batch_memory(sum(len(sample.canvas.pixels) for sample in samples), dtype=torch.int16)
    np.concatenate([sample.canvas.pixels for sample in samples], out=pixels.numpy())
    drawn = [sample.parameters for sample in samples]
    position = torch.tensor([sample.draw.position for sample in samples])
    views = ViewBatch(
        pixels=pixels,
        starts=torch.from_numpy(starts),
        widths=torch.from_numpy(widths),
        reduced=torch.tensor([sample.level for sample in samples]),
        mean=torch.tensor([sample.canvas.mean for sample in samples]),
        scale=_stacked([row.scale for row in drawn]),
        top=_stacked([row.top for row in drawn]),
        left=_stacked([row.left for row in drawn]),
        bands=_stacked([row.bands for row in drawn]),
        gamma=_stacked([row.gamma for row in drawn]),
        gain=_stacked([row.gain for row in drawn]),
        bias=_stacked([row.bias for row in drawn]),
    )
    depths = [row.depth for row in drawn if row.depth is not None]
    if depths:
        slices = np.array([len(sample.canvas.planes) for sample in samples])
        depth = VolumeDepth(
            first=torch.from_numpy(np.cumsum(slices) - slices),
            slices=torch.from_numpy(slices),
            front=_stacked([part.front for part in depths]),
            thickness=_stacked([part.thickness for part in depths]),
        )
        views = VolumeBatch(**vars(views), depth=depth)
    return TrainingBatch(
        step=samples[0].draw.step,
        views=views,
        index=torch.tensor([sample.draw.index for sample in samples]),
        position=position,
        damaged=tuple(message for sample in samples for message in sample.damaged),
    )


def _stacked(columns: list[npt.NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(columns))


class Samples(Protocol):
    """What `view_loader` needs of a data set of images or volumes."""

    @property
    def archive(self) -> Archive:
        """Where the images are."""

    def __getitem__(self, draw: Any) -> ViewSample:
        """What is read for one place of a batch."""

    def fetch(self, draws: Sequence[Draw]) -> None:
        """Bring near what the draws will read, if it lies in a bucket."""


def view_loader(
    dataset: Samples, plan: BatchPlan, first: int, last: int, *, rank: int, ranks: int, workers: int
) -> Iterator[TrainingBatch]:
    """Iterate over a rank's batches of steps first, ..., last - 1; see `batch_loader`."""
    read = partial(_read_views, dataset)
    fetch = dataset.fetch if dataset.archive.is_remote else None
    return batch_loader(read, plan, first, last, rank=rank, ranks=ranks, workers=workers, fetch=fetch)


def _read_views(dataset: Samples, draws: list[Draw]) -> TrainingBatch:
    return collate_views([dataset[draw] for draw in draws])
