"""Metastases in slices of volumes (spec section 6, "2.5D"): masks by a U-Net, then a ResNet that sees them.

In: an encoder, masks of a finding in volumes. Out: a job of two stages for the loop, a slice's probability.
"""

from scoutview.tasks.metastasis.cases import Masks, SliceCases
from scoutview.tasks.metastasis.classifier import (
    SliceChannels,
    SliceClassification,
    new_slice_classifier,
    predict_slices,
)
from scoutview.tasks.metastasis.inputs import SliceInputs
from scoutview.tasks.metastasis.job import (
    STAGE1,
    MetastasisSettings,
    check_stage1,
    evaluate_metastasis,
    metastasis_job,
    stage1_jobs,
)
from scoutview.tasks.metastasis.predicted import PredictedMasks, predicted_masks
from scoutview.tasks.metastasis.segmentation import load_segmenters

__all__ = [
    "STAGE1",
    "Masks",
    "MetastasisSettings",
    "PredictedMasks",
    "SliceCases",
    "SliceChannels",
    "SliceClassification",
    "SliceInputs",
    "check_stage1",
    "evaluate_metastasis",
    "load_segmenters",
    "metastasis_job",
    "new_slice_classifier",
    "predict_slices",
    "predicted_masks",
    "stage1_jobs",
]
