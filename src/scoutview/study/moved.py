"""What fine-tuned models say of test cases under transforms, the same for every model (spec section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from scoutview.study.plan import Robustness
from scoutview.study.transforms import Transform, apply_transform, draw_transforms
from scoutview.tasks import Classifier, Targets, predict
from scoutview.tasks.inputs import NetworkInputs
from scoutview.training import device


@dataclass(frozen=True)
class TransformedInputs:
    """The network inputs of another under one transform."""

    inputs: NetworkInputs
    transform: Transform

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[image, 1, row, column]."""
        return apply_transform(self.inputs.batch(indices), self.transform)


def draw_cases(test: Targets, count: int) -> npt.NDArray[np.int64]:
    """Places [case] in the test part, sorted: drawn at random, stratified by class, one of each class at least.

    Depends on the targets alone, so that every model gets the same cases. All, where there are no more than `count`.
    """
    order = np.random.Generator(np.random.Philox(key=0, counter=[0, 4, 0, 0])).permutation(len(test.indices))
    _, stratum = np.unique(np.nan_to_num(test.values, nan=-1.0), axis=0, return_inverse=True)
    stratum = stratum.reshape(-1)[order]
    priority = np.zeros(len(order))
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        priority[members] = np.arange(len(members)) / len(members)
    return np.sort(order[np.argsort(priority, kind="stable")[:count]])


def transformed_probabilities(
    model: Classifier, inputs: NetworkInputs, test: Targets, settings: Robustness
) -> dict[str, Any]:
    """`cases` (places in the test part), `probabilities` [case, class], `transformed` [case, transform, class]."""
    cases = draw_cases(test, settings.cases)
    indices = [test.indices[case] for case in cases]
    after = [
        predict(model, TransformedInputs(inputs, transform), indices, device())
        for transform in draw_transforms(settings.transforms)
    ]
    return {
        "cases": cases.tolist(),
        "probabilities": predict(model, inputs, indices, device()).tolist(),
        "transformed": np.stack(after, 1).tolist(),
    }
