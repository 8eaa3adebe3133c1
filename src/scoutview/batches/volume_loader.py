"""Volumes in the place of images: listed, selected and read for the same lanes, batches and views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from scoutview.batches.archive import Archive
from scoutview.batches.kept import Kept
from scoutview.batches.loader import KEPT_BYTES, ViewSample, first_whole
from scoutview.batches.sampler import Draw
from scoutview.batches.selection import Joined, Numbers, Selection
from scoutview.batches.volumes import Volumes, read_head, read_slab
from scoutview.errors import UsageError
from scoutview.images import Spectrum, volume_spectrum
from scoutview.preprocessing import HeadVolume, NoBrainError, Preprocessing
from scoutview.store import DamagedRecordError, Store, Volume
from scoutview.views import Canvas, ReferenceEnergies, ViewSettings, canvas_of, draw_volume_parameters

MOST_SLICES = 64
"""Of a volume of more that is not cropped to a head, a slab of so many is read, another one each time."""
LEAST_ALIKE = 0.8
"""Cosine of the angle up to which a head's slices and those of its series, tilted gantries' too, count as parallel."""
_BORDER = 1e-6
"""Slices; rounding."""
_SLAB = 1
"""Keeps the random numbers of slabs apart from those of views."""


@dataclass(frozen=True)
class VolumeList:
    """The volumes of several modalities, numbered through."""

    parts: dict[str, Volumes]

    @classmethod
    def of(cls, archive: Archive, images: Mapping[str, Selection]) -> Self:
        """The volumes all of whose slices are among the selected images; modalities without any are left out.

        Raises:
            UsageError: if there is none.
            RunError: if a catalog file is damaged.
        """
        found = {name: Volumes.of(archive, selection) for name, selection in images.items()}
        listed = cls({name: volumes for name, volumes in found.items() if len(volumes)})
        if not listed.parts:
            left_out = "; ".join(cls(found).left_out()) or "no series of slices"
            raise UsageError(f"no whole volume among the selected images ({left_out}): take in series of slices")
        return listed

    def left_out(self) -> list[str]:
        """A line per modality of which volumes do not take part."""
        return [
            f"{name}: left out are {volumes.incomplete} volumes with slices that are not selected and {volumes.uneven} "
            "with gaps"
            for name, volumes in self.parts.items()
            if volumes.incomplete or volumes.uneven
        ]

    @cached_property
    def starts(self) -> Numbers:
        """Number of the first volume of each modality, and how many there are."""
        return np.cumsum([0, *(len(volumes) for volumes in self.parts.values())])

    @property
    def selections(self) -> dict[str, Selection]:
        """modality -> its volumes, each a series of its own, in the place of images."""
        return {
            name: Selection.of(
                np.ones(len(volumes), dtype=np.bool_), Joined.of([np.arange(len(volumes))], [0]), int(start)
            )
            for (name, volumes), start in zip(self.parts.items(), self.starts, strict=False)
        }

    def place(self, index: int) -> tuple[Store, Volume]:
        """(store, volume) of number `index`."""
        volumes, place = self._part(index)
        return volumes.store(place), volumes[place]

    def modality_of(self, index: int) -> str:
        """The modality of volume `index`."""
        return list(self.parts)[int(np.searchsorted(self.starts, index, side="right")) - 1]

    def slices_of(self, index: int) -> int:
        """How many slices volume `index` has."""
        volumes, place = self._part(index)
        return int(volumes.places[place]["slices"])

    def _part(self, index: int) -> tuple[Volumes, int]:
        name = self.modality_of(index)
        return self.parts[name], index - int(self.starts[list(self.parts).index(name)])


@dataclass(frozen=True)
class WholeVolume:
    """A volume and where its slices lie among those that are stored, which a head's are not.

    pixels: float32 [slice, row, column] in [0, 1]. stored: how many slices are stored. The middle of slice k lies at
    start + k step of these; step is NaN if a slice of `pixels` cuts through many of them.
    """

    pixels: npt.NDArray[np.float32]
    stored: int
    start: float
    step: float

    def shown_by(self, centres: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.bool_]:
        """Which stored slices are shown [slice, stored slice] by slices at `centres` among those of `pixels`.

        width: how many of these each covers. It shows those whose middle lies within it, on its border included, or
        the nearest where there are none; nothing where a centre is NaN or lies outside of what is stored.
        """
        places = (self.start + centres * self.step)[:, None]
        distance = np.abs(places - np.arange(self.stored))
        within = (places >= -0.5 - _BORDER) & (places <= self.stored - 0.5 + _BORDER)
        least = np.min(distance, axis=1, keepdims=True)
        reach = np.maximum(least, abs(self.step) * width / 2)
        shown: npt.NDArray[np.bool_] = within & (distance <= reach + _BORDER)
        return shown


def _line(head: HeadVolume, volume: Volume) -> tuple[float, float]:
    """start and step of the middles of a head's slices in slices of its volume; see `WholeVolume`."""
    affine = volume.affine()
    if affine is None:
        return float("nan"), float("nan")
    inward = np.linalg.inv(affine)
    _, rows, columns = head.pixels.shape
    middle = head.affine @ np.array([(columns - 1) / 2, (rows - 1) / 2, 0.0, 1.0])
    up, stored_up = head.affine[:3, 2], affine[:3, 2]
    alike = abs(up @ stored_up) / (np.linalg.norm(up) * np.linalg.norm(stored_up))
    step = float(inward[2, :3] @ up) if alike >= LEAST_ALIKE else float("nan")
    return float(inward[2] @ middle), step


@dataclass(frozen=True)
class VolumeReader:
    """Reads volumes as training sees them; picklable, and without open handles.

    head: size to which the brain of head CT is cropped (see `head_volume`); none is whole slices by `preprocessing`.
    """

    volumes: VolumeList
    preprocessing: Preprocessing
    head: tuple[int, int, int] | None

    def read(self, index: int, slab: float = 0.5) -> tuple[npt.NDArray[np.float32], float]:
        """(volume [slice, row, column] in [0, 1], from a slice to the next in px of the slices, 1 if not known).

        slab: which slices of a volume of more than MOST_SLICES, from 0 for the first to 1 for the last.

        Raises:
            NoBrainError: if a head is asked for and there is none.
            DamagedRecordError: if the stored bytes are not those that were written.
        """
        store, volume = self.volumes.place(index)
        if self.head is not None:
            head = read_head(store, volume, self.head)
            across, down, through = np.linalg.norm(head.affine[:3, :3], axis=0)
            return head.pixels, float(through / np.sqrt(across * down))
        count = min(len(volume.rows), MOST_SLICES)
        first = int(slab * (len(volume.rows) - count) + 0.5)
        pixels = read_slab(store, volume, self.preprocessing, first, first + count)
        if volume.spacing is None:
            return pixels, 1.0
        through, down, across = volume.spacing
        return pixels, float(through / np.sqrt(across * down))

    def whole(self, index: int) -> WholeVolume:
        """All slices of a volume, or its head.

        Raises:
            NoBrainError: if a head is asked for and there is none.
            DamagedRecordError: if the stored bytes are not those that were written.
        """
        store, volume = self.volumes.place(index)
        if self.head is None:
            return WholeVolume(read_slab(store, volume, self.preprocessing), len(volume.rows), 0.0, 1.0)
        head = read_head(store, volume, self.head)
        return WholeVolume(head.pixels, len(volume.rows), *_line(head, volume))

    def always_same(self, index: int) -> bool:
        """Whether a volume is read as a whole."""
        return self.head is not None or self.volumes.slices_of(index) <= MOST_SLICES


@dataclass(frozen=True)
class VolumeDataset(Dataset[ViewSample]):
    """Maps a `Draw` of a volume to a `ViewSample`, as `ViewDataset` does with images."""

    archive: Archive
    reader: VolumeReader
    settings: ViewSettings
    references: dict[str, ReferenceEnergies]
    seed: int
    kept: Kept[tuple[Canvas, Spectrum, float]] = field(default_factory=lambda: Kept(KEPT_BYTES))

    def __getitem__(self, draw: Any) -> ViewSample:
        """Read the volume of a draw, or in its place the first of its spares that is whole and shows what it should.

        Raises:
            DamagedRecordError: if none is.
        """
        return first_whole(draw, self._sample, DamagedRecordError, NoBrainError)

    def fetch(self, draws: Sequence[Draw]) -> None:
        """Have what a batch needs of stores in buckets here soon."""
        for draw in draws:
            if draw.index not in self.kept.values:
                store, volume = self.reader.volumes.place(draw.index)
                store.fetch([(row, 0) for row in volume.rows])

    def _sample(self, draw: Draw, damaged: tuple[str, ...]) -> ViewSample:
        canvas, spectrum, thickness = self.kept.values.get(draw.index) or self._read(draw)
        modality = self.reader.volumes.modality_of(draw.index)
        slices, rows, columns = canvas.shape
        parameters = draw_volume_parameters(
            self.settings,
            (slices, rows, columns),
            thickness,
            spectrum,
            self.references[modality],
            seed=self.seed,
            step=draw.step,
            position=draw.position,
        )
        return ViewSample(draw, canvas, parameters, damaged=damaged)

    def _read(self, draw: Draw) -> tuple[Canvas, Spectrum, float]:
        bits = np.random.Philox(key=self.seed, counter=[0, _SLAB, draw.position, draw.step])
        volume, thickness = self.reader.read(draw.index, np.random.Generator(bits).random())
        read = canvas_of(volume), volume_spectrum(volume, thickness), thickness
        if self.reader.always_same(draw.index):
            self.kept.offer(draw.index, read, read[0].pixels.nbytes)
        return read
