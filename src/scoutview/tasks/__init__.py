"""Supervised tasks on an encoder: fine-tuning, probes, and the predictions that are evaluated.

In: an encoder, an archive, label names. Out: a trained model, scores [image, class], probe results.
"""

from scoutview.tasks.classification import Classifier, FinetuneSettings, finetune_classification, predict
from scoutview.tasks.labels import Targets, class_targets
from scoutview.tasks.model_file import load_classifier, save_classifier
from scoutview.tasks.probes import probe_label

__all__ = [
    "Classifier",
    "FinetuneSettings",
    "Targets",
    "class_targets",
    "finetune_classification",
    "load_classifier",
    "predict",
    "probe_label",
    "save_classifier",
]
