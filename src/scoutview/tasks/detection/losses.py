"""The loss of FCOS: focal loss for the classes, GIoU for the boxes, binary cross-entropy for the centre-ness.

Each is a sum, with the number of locations to divide it by, so that ranks can add up both first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scoutview.tasks.detection.boxes import generalized_overlaps
from scoutview.tasks.detection.network import HeadOutputs
from scoutview.tasks.detection.targets import NOTHING, DetectionTargets

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss."""


@dataclass(frozen=True)
class DetectionLoss:
    """Sums over the batch: classification over all locations, box and centerness over those that have a box.

    positives: how many have one.
    """

    classification: Tensor
    box: Tensor
    centerness: Tensor
    positives: Tensor

    def mean(self, positives: Tensor | float) -> Tensor:
        """The sum of the three, divided by a number of positive locations, at least 1 (FCOS, Eq. 2).

        positives: of this batch, or with several ranks their sum divided by the number of ranks, as gradients are
        averaged.
        """
        total = self.classification + self.box + self.centerness
        return total / torch.as_tensor(positives, dtype=total.dtype, device=total.device).clamp_min(1)


def detection_loss(outputs: HeadOutputs, targets: DetectionTargets, weights: Tensor | None = None) -> DetectionLoss:
    """The loss of a batch. Without any box it still has a gradient, of 0, for every part of the head.

    weights [image, class]: what the class counts at the locations of the image, 0 where it is not known whether the
    image has it; 1 throughout without them.
    """
    positive = targets.classes != NOTHING
    return DetectionLoss(
        classification=focal_loss(outputs.logits, targets.classes, weights),
        box=box_loss(outputs.distances[positive], targets.distances[positive]),
        centerness=F.binary_cross_entropy_with_logits(
            outputs.centerness[positive], targets.centerness[positive], reduction="sum"
        ),
        positives=positive.sum(),
    )


def focal_loss(logits: Tensor, classes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of -alpha_t (1 - p_t)^gamma log p_t over images, locations and classes (Lin et al. 2017, Eq. 5).

    logits [image, location, class]; classes [image, location], `NOTHING` where none is right; weights [image, class]
    multiply the terms.
    """
    right = classes[..., None] == torch.arange(logits.shape[-1], device=logits.device)
    # With the logit turned so that p_t is its sigmoid, nothing overflows.
    turned = torch.where(right, logits, -logits)
    weight = torch.where(right, ALPHA, 1 - ALPHA)
    if weights is not None:
        weight = weight * weights[:, None]
    return -(weight * torch.sigmoid(-turned) ** GAMMA * F.logsigmoid(turned)).sum()


def box_loss(distances: Tensor, expected: Tensor) -> Tensor:
    """Sum of 1 - GIoU of the boxes with these distances from one point: both [location, 4] in px, positive."""
    outwards = distances.new_tensor([-1, -1, 1, 1])
    return (1 - generalized_overlaps(distances * outwards, expected * outwards)).sum()
