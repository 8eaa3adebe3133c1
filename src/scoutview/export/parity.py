"""Whether another tool says what the network says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from scoutview.errors import RunError
from scoutview.export.model import BOUND, ExportModel

BATCHES = (1, 2, 5)
"""Sizes of the batches that are compared; other than the one a file was traced with."""

Arrays = Sequence[npt.NDArray[np.float32]]
Runner = Callable[[npt.NDArray[np.float32]], Arrays]
"""Inputs [batch, 1, ...] in [0, 1] -> the outputs of a network in their order."""


def reference(model: ExportModel) -> Runner:
    """The network itself as a `Runner`."""

    def run(images: npt.NDArray[np.float32]) -> Arrays:
        return arrays(model.network(torch.from_numpy(images)))

    return run


def arrays(outputs: torch.Tensor | Sequence[torch.Tensor]) -> Arrays:
    """What a network returns as a list of arrays."""
    tensors = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    return [tensor.detach().numpy() for tensor in tensors]


def check_parity(model: ExportModel, other: Runner, tool: str) -> float:
    """The largest difference between outputs of the network and of another tool, on noise and on empty images.

    Relative to the largest output of its kind where that is above 1, since fp32 has no more digits.

    Raises:
        RunError: if it is above `BOUND`, an output is not finite, or shapes differ.
    """
    own = reference(model)
    generator = np.random.default_rng(0)
    largest = 0.0
    for batch in BATCHES:
        images = generator.random((batch, *model.shape), dtype=np.float32)
        images[batch // 2] *= batch % 2  # the only image of a batch, or one of several, is empty
        expected = own(images)
        try:
            found = other(images)
        except Exception as error:  # of whatever kind the other tool has
            raise RunError(f"{tool} fails on a batch of {batch} ({error}): nothing was written") from error
        if [one.shape for one in expected] != [one.shape for one in found]:
            raise RunError(f"{tool} gives other shapes for a batch of {batch}: nothing was written")
        for mine, theirs in zip(expected, found, strict=True):
            scale = max(1.0, float(np.abs(mine).max()))
            difference = float(np.abs(mine.astype(np.float64) - theirs).max()) / scale
            largest = max(largest, difference if difference == difference else float("inf"))
    if largest > BOUND:
        raise RunError(
            f"{tool} differs from the network by {largest:.2g}, above {BOUND:g}: nothing was written; try another "
            "format"
        )
    return largest
