"""Supervised tasks on an encoder: fine-tuning, probes, and the predictions that are evaluated.

In: an encoder, an archive, label names. Out: a trained model, scores [image, class], probe results.
"""

from scoutview.tasks.classification import Classifier, finetune_classification, predict
from scoutview.tasks.detection import DetectionSettings, detection_job
from scoutview.tasks.evaluation import Evaluation, Shown
from scoutview.tasks.finetuning import FinetuneSettings, Job, Task, finetune_task
from scoutview.tasks.hemorrhage import HemorrhageSettings, evaluate_hemorrhage, hemorrhage_job
from scoutview.tasks.labels import Targets, class_targets
from scoutview.tasks.metastasis import MetastasisSettings, evaluate_metastasis, metastasis_job
from scoutview.tasks.model_file import classification_job, load_classifier, save_classifier, task_of
from scoutview.tasks.probes import probe_label

SETTINGS: dict[str, type[FinetuneSettings]] = {
    "classification": FinetuneSettings,
    "chest_detection": DetectionSettings,
    "hemorrhage_volume": HemorrhageSettings,
    "metastasis_slices": MetastasisSettings,
}
"""The tasks of `scoutview finetune`, with their settings."""

__all__ = [
    "SETTINGS",
    "Classifier",
    "DetectionSettings",
    "Evaluation",
    "FinetuneSettings",
    "HemorrhageSettings",
    "Job",
    "MetastasisSettings",
    "Shown",
    "Targets",
    "Task",
    "class_targets",
    "classification_job",
    "detection_job",
    "evaluate_hemorrhage",
    "evaluate_metastasis",
    "finetune_classification",
    "finetune_task",
    "hemorrhage_job",
    "load_classifier",
    "metastasis_job",
    "predict",
    "probe_label",
    "save_classifier",
    "task_of",
]
