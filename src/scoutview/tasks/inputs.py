"""Network inputs of the images or volumes of an archive, read once and kept as far as memory is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoutview.batches import Archive, Cases, LabelledVolumes, VolumeReader, read_unit_image
from scoutview.batches.kept import Kept
from scoutview.encoders import Encoder
from scoutview.preprocessing import Preprocessing
from scoutview.tasks.evaluation import CasePicture
from scoutview.views import network_input, network_slices

KEPT_BYTES = 2 * 2**30

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


class Inputs(Protocol):
    """Where network inputs come from."""

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[image, 1, row, column], or of volumes [volume, 1, slice, row, column], in [0, 1]."""


class NetworkInputs:
    """index -> float32 [size, size] in [0, 1], the same tensor that embed and probe use."""

    def __init__(self, archive: Archive, preprocessing: Preprocessing, size: int) -> None:
        self.archive, self.preprocessing, self.size = archive, preprocessing, size
        self.kept: Kept[Pixels] = Kept(KEPT_BYTES)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[image, 1, row, column]."""
        return torch.from_numpy(np.stack([self._one(index) for index in indices])).unsqueeze(1)

    def _one(self, index: int) -> Pixels:
        value = self.kept.values.get(index)
        if value is None:
            value = network_input(read_unit_image(self.archive, index, self.preprocessing)[0], self.size)
            self.kept.offer(index, value, value.nbytes)
        return value


class VolumeInputs:
    """Number of a volume -> float32 [slice, row, column] in [0, 1] of a size, the same that embed and probe use.

    An encoder of heads sees the brain's box at its size, as its pretraining did (`read_head`), any other the whole
    volume, brought to the size by `network_input`.
    """

    def __init__(self, reader: VolumeReader, size: tuple[int, int, int]) -> None:
        self.reader, self.size = reader, size
        self.kept: Kept[Pixels] = Kept(KEPT_BYTES)
        self.shown: dict[int, npt.NDArray[np.bool_]] = {}

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[volume, 1, slice, row, column]."""
        return torch.from_numpy(np.stack([self._one(index) for index in indices])).unsqueeze(1)

    def shown_slices(self, index: int) -> npt.NDArray[np.bool_]:
        """Which stored slices the slices of the input show [slice, stored slice]; see `WholeVolume.shown_by`.

        Raises:
            NoBrainError: if a head is asked for and there is none.
        """
        if index not in self.shown:
            self._one(index)
        return self.shown[index]

    def _one(self, index: int) -> Pixels:
        value = self.kept.values.get(index)
        if value is None:
            whole = self.reader.whole(index)
            value = network_input(whole.pixels, self.size)
            self.shown[index] = whole.shown_by(*network_slices(len(whole.pixels), self.size[0]))
            self.kept.offer(index, value, value.nbytes)
        return value


def picture_of(inputs: Inputs, index: int, place: int | None = None) -> CasePicture:
    """An image, whole, or a slice of what a network sees of a volume: `place`, which says why, or the middle one."""
    if isinstance(inputs, NetworkInputs):
        pixels, _ = read_unit_image(inputs.archive, index, inputs.preprocessing)
        return CasePicture(inputs.archive.rows[index].image, pixels)
    assert isinstance(inputs, VolumeInputs)
    slices = inputs.batch([index])[0, 0].numpy()
    shown = len(slices) // 2 if place is None else place
    reason = "the middle" if place is None else "with the highest score"
    name = inputs.reader.volumes.place(index)[1].stack
    return CasePicture(name, slices[shown], f"slice {shown + 1} of {len(slices)} of the input, {reason}")


def cases_for(encoder: Encoder, archive: Archive) -> Cases:
    """What of an archive an encoder is shown: its images, or its volumes.

    Raises:
        UsageError: if the encoder is one of volumes and the archive has none.
    """
    return archive if encoder.network.spatial_dims == 2 else LabelledVolumes.of(archive)


def inputs_for(encoder: Encoder, cases: Cases) -> Inputs:
    """What the encoder is shown of these cases, at its input size."""
    if isinstance(cases, Archive):
        return NetworkInputs(cases, encoder.preprocessing, encoder.image_side)
    return VolumeInputs(volume_reader(encoder, cases), encoder.volume_size)


def volume_reader(
    encoder: Encoder, cases: LabelledVolumes, otherwise: Literal["head", "whole"] = "whole"
) -> VolumeReader:
    """Reads volumes as the encoder's pretraining did, or as `otherwise` says if it saw no volumes in one."""
    head = encoder.provenance.get("volumes", otherwise) == "head"
    return VolumeReader(cases.volumes, encoder.preprocessing, encoder.volume_size if head else None)
