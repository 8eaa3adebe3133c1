"""Network inputs of archive images, read once and kept as far as memory is allowed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scoutview.batches import Archive, read_unit_image
from scoutview.preprocessing import Preprocessing
from scoutview.views import network_input

KEPT_BYTES = 2 * 2**30


class NetworkInputs:
    """index -> float32 [size, size] in [0, 1], the same tensor that embed and probe use."""

    def __init__(self, archive: Archive, preprocessing: Preprocessing, size: int) -> None:
        self.archive, self.preprocessing, self.size = archive, preprocessing, size
        self.kept: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[image, 1, row, column]."""
        return torch.from_numpy(np.stack([self._one(index) for index in indices])).unsqueeze(1)

    def _one(self, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if index in self.kept:
            return self.kept[index]
        value = network_input(read_unit_image(self.archive, index, self.preprocessing)[0], self.size)
        if (len(self.kept) + 1) * value.nbytes <= KEPT_BYTES:
            self.kept[index] = value
        return value
