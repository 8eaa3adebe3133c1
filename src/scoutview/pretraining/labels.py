"""Labels of the archive as targets in pretraining, and their loss per image (Eq. 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from scoutview.batches import Archive
from scoutview.encoders import at_least_fp32
from scoutview.errors import UsageError

SPLITS = ("train",)
"""Labels of validation choose among encoders, and those of test judge them: neither is learnt from."""
SEVERAL = "|"
"""Between the findings of one value, as in "effusion|mass"."""


@dataclass(frozen=True)
class Labels:
    """Targets of the labelled images.

    exclusive: one class per image (cross-entropy), else independent findings (binary cross-entropy). indices [image]:
    ascending numbers in the archive; values [image, class] in {0, 1}, NaN where unknown.
    """

    classes: tuple[str, ...]
    exclusive: bool
    indices: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]

    def of(self, index: Tensor, device: torch.device) -> Tensor:
        """Targets [image, class] of images by their number in the archive, NaN where there is no label."""
        wanted = index.cpu().numpy()
        places = np.searchsorted(self.indices, wanted).clip(max=len(self.indices) - 1)
        known = self.indices[places] == wanted
        return torch.from_numpy(np.where(known[:, None], self.values[places], np.float32(np.nan))).to(device)


def read_labels(archive: Archive, label: str | Sequence[str]) -> Labels:
    """Targets of the training images that have the label, at image, slice, series or study level.

    One name whose values are 0 and 1 is a finding; one with values such as "effusion|mass" is several findings, all
    of them known; one with other values is exclusive classes. Several names are findings, each known or not per image.

    Raises:
        UsageError: if a label is missing, has a single value, or values that are neither 0 nor 1 among several.
    """
    names = (label,) if isinstance(label, str) else tuple(label)
    known = {name: archive.labelled(name, SPLITS) for name in names}
    said = {name: dict(zip(held, archive.label_values(name, held), strict=True)) for name, held in known.items()}
    indices = sorted({index for held in known.values() for index in held})
    distinct = {name: sorted(set(values.values())) for name, values in said.items()}
    for name, values in distinct.items():
        if len(values) < 2:
            raise UsageError(
                f"label {name!r} has {len(values)} different value(s) in split train: label images of two or more"
            )
        if len(names) > 1 and values != ["0", "1"]:
            raise UsageError(f"label {name!r} has the value {values[-1]!r}: several findings need 0 and 1")
    first = said[names[0]]
    if len(names) > 1 or distinct[names[0]] == ["0", "1"]:
        rows = [[float(said[name].get(index, "nan")) for name in names] for index in indices]
        return _labels(names, False, indices, rows)
    if any(SEVERAL in value for value in distinct[names[0]]):
        parts = {index: set(filter(None, value.split(SEVERAL))) for index, value in first.items()}
        classes = sorted(set().union(*parts.values()))
        return _labels(classes, False, indices, [[float(each in parts[i]) for each in classes] for i in indices])
    classes = distinct[names[0]]
    return _labels(classes, True, indices, [[float(first[i] == each) for each in classes] for i in indices])


def _labels(classes: Sequence[str], exclusive: bool, indices: list[int], rows: list[list[float]]) -> Labels:
    values = np.array(rows, dtype=np.float32).reshape(len(indices), len(classes))
    return Labels(tuple(classes), exclusive, np.array(indices, dtype=np.int64), values)


def label_losses(logits: Tensor, targets: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """(loss [image], 0 where unlabelled; whether it is labelled [image]).

    logits [view, image, class]: the loss is the mean over views, and over the findings that are known of the image.
    An image without a label has no share in any gradient, but the logits stay part of the graph.
    """
    known = ~torch.isnan(targets)
    labelled = known.any(1)
    target = targets.nan_to_num().to(at_least_fp32(logits).dtype).expand(logits.shape)
    if exclusive:
        losses = -(target * F.log_softmax(at_least_fp32(logits), dim=2)).sum(2)
    else:
        each = F.binary_cross_entropy_with_logits(at_least_fp32(logits), target, reduction="none")
        losses = (each * known).sum(2) / known.sum(1).clamp_min(1)
    return losses.mean(0) * labelled, labelled
