"""Detection of findings in radiographs: FCOS (Tian et al. 2019) on a pretrained ResNet, in parts.

In: images [image, 1, row, column] in [0, 1], boxes in px. Out: boxes with scores, and the score of a case.
A box is left, top, right, bottom in px; borders are coordinates, so pixel i spans [i, i + 1].
"""

from scoutview.tasks.detection.decoding import Detections, case_scores, decode
from scoutview.tasks.detection.locations import Locations, make_locations
from scoutview.tasks.detection.losses import DetectionLoss, detection_loss
from scoutview.tasks.detection.network import Fcos, HeadOutputs
from scoutview.tasks.detection.targets import DetectionTargets, assign_targets

__all__ = [
    "DetectionLoss",
    "DetectionTargets",
    "Detections",
    "Fcos",
    "HeadOutputs",
    "Locations",
    "assign_targets",
    "case_scores",
    "decode",
    "detection_loss",
    "make_locations",
]
