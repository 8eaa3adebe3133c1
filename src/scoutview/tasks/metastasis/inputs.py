"""Network inputs of slices: five adjacent ones, in the one range of their volume, and the mask of the centre one."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.batches import read_slab
from scoutview.batches.kept import Kept
from scoutview.preprocessing import Preprocessing
from scoutview.tasks.classification import augment
from scoutview.tasks.finetuning import FinetuneSettings
from scoutview.tasks.inputs import KEPT_BYTES
from scoutview.tasks.metastasis.cases import SliceCases
from scoutview.views import network_input

SLICES = 5
CENTRE = SLICES // 2

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SliceInputs:
    """Reads the slices of some cases; every slice is read once and kept as far as memory is allowed."""

    cases: SliceCases
    preprocessing: Preprocessing
    size: int
    kept: Kept[Pixels] = field(default_factory=lambda: Kept(KEPT_BYTES))

    def slices(self, cases: Sequence[int]) -> Tensor:
        """[case, 5, row, column] in [0, 1]: the slice and two on each side, the first and last repeated at the ends."""
        return torch.from_numpy(np.stack([self._window(case) for case in cases]))

    def masks(self, cases: Sequence[int]) -> Tensor:
        """[case, 1, row, column] in [0, 1]: the share of each pixel that is marked, on the grid of the image."""
        bitmaps = (cast(npt.NDArray[np.bool_], self.cases.masks.bitmap(self.cases.row(case))) for case in cases)
        pixels = [mask_input(bitmap, self.size) for bitmap in bitmaps]
        return torch.from_numpy(np.stack(pixels)).unsqueeze(1)

    def _window(self, case: int) -> Pixels:
        store, volume = self.cases.volumes[self.cases.volume[case]]
        last = len(volume.rows) - 1
        centre = int(self.cases.place[case])
        places = [min(max(centre + step, 0), last) for step in range(-CENTRE, CENTRE + 1)]
        values = self.kept.values
        found = {place: values[volume.stack, place] for place in places if (volume.stack, place) in values}
        missing = [place for place in dict.fromkeys(places) if place not in found]
        if missing:
            first = min(missing)
            slab = read_slab(store, volume, self.preprocessing, first, max(missing) + 1)
            for place in missing:
                found[place] = network_input(slab[place - first], self.size)
                self.kept.offer((volume.stack, place), found[place], found[place].nbytes)
        return np.stack([found[place] for place in places])


def mask_input(bitmap: npt.NDArray[np.bool_], size: int) -> Pixels:
    """Where `network_input` puts an image [row, column], the share [size, size] of each of its pixels that is marked.

    By area: the cosine transform that scales images rings at the hard edge of a mask.
    """
    scale = size / max(bitmap.shape)
    rows, columns = (max(1, round(side * scale)) for side in bitmap.shape)
    top, left = (size - rows) // 2, (size - columns) // 2
    shares = np.zeros((size, size), dtype=np.float32)
    inner = _coverage(bitmap.shape[0], rows) @ bitmap @ _coverage(bitmap.shape[1], columns).T
    shares[top : top + rows, left : left + columns] = inner
    return shares


def _coverage(old: int, new: int) -> npt.NDArray[np.float64]:
    """[new pixel, old pixel]: which share of a new pixel an old one covers, along one axis."""
    edges, places = np.arange(new + 1)[:, None] * old / new, np.arange(old)
    overlap = np.minimum(edges[1:], places + 1) - np.maximum(edges[:-1], places)
    return overlap.clip(0.0, None) * new / old


def augment_both(
    slices: Tensor, masks: Tensor, settings: FinetuneSettings, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Slices [case, 5, row, column] and masks [case, 1, row, column], moved alike; masks keep their values."""
    same = deepcopy(generator)
    moved_alone = replace(settings, gain=(1.0, 1.0), bias=(0.0, 0.0))
    return augment(slices, settings, generator), augment(masks, moved_alone, same)
