"""Detection of findings in radiographs: FCOS (Tian et al. 2019) on a pretrained ResNet, in parts.

In: images [image, 1, row, column] in [0, 1], boxes in px. Out: boxes with scores, and the score of a case.
A box is left, top, right, bottom in px; borders are coordinates, so pixel i spans [i, i + 1].
"""

from scoutview.tasks.detection.augmentation import (
    Changes,
    DetectionAugmentation,
    change_boxes,
    change_images,
    draw_changes,
)
from scoutview.tasks.detection.cases import DetectionCases, Findings, read_findings
from scoutview.tasks.detection.decoding import Detections, case_scores, decode
from scoutview.tasks.detection.letterbox import Letterbox, make_letterbox
from scoutview.tasks.detection.locations import Locations, make_locations
from scoutview.tasks.detection.losses import DetectionLoss, detection_loss
from scoutview.tasks.detection.model_file import detection_cases, detection_job, load_detector, save_detector
from scoutview.tasks.detection.network import Fcos, HeadOutputs
from scoutview.tasks.detection.readers import FusedBox, fuse_annotations, fuse_readers
from scoutview.tasks.detection.targets import DetectionTargets, assign_targets
from scoutview.tasks.detection.task import (
    RULE,
    Detection,
    DetectionSettings,
    Detector,
    boxes_of,
    detect,
    new_detector,
    truths_of,
)

__all__ = [
    "RULE",
    "Changes",
    "Detection",
    "DetectionAugmentation",
    "DetectionCases",
    "DetectionLoss",
    "DetectionSettings",
    "DetectionTargets",
    "Detections",
    "Detector",
    "Fcos",
    "Findings",
    "FusedBox",
    "HeadOutputs",
    "Letterbox",
    "Locations",
    "assign_targets",
    "boxes_of",
    "case_scores",
    "change_boxes",
    "change_images",
    "decode",
    "detect",
    "detection_cases",
    "detection_job",
    "detection_loss",
    "draw_changes",
    "fuse_annotations",
    "fuse_readers",
    "load_detector",
    "make_letterbox",
    "make_locations",
    "new_detector",
    "read_findings",
    "save_detector",
    "truths_of",
]
