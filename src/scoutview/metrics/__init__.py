"""In: scores, targets and patient keys as numpy arrays. Out: figures with 95% intervals over patients.

Pure functions; numpy only; wrong shapes or values raise `scoutview.errors.UsageError`.
Public: the areas and curves of `auc`, the intervals of `bootstrap`, `knn_scores`, `speed_up`, `evaluate_scores`.
"""

from scoutview.metrics.auc import (
    accuracy,
    average_precision,
    macro_auc,
    precision_recall_curve,
    roc_auc,
    roc_curve,
)
from scoutview.metrics.bootstrap import Interval, paired_difference, patient_bootstrap
from scoutview.metrics.classification import evaluate_scores
from scoutview.metrics.convergence import SpeedUp, speed_up, steps_to
from scoutview.metrics.knn import knn_scores

__all__ = [
    "Interval",
    "SpeedUp",
    "accuracy",
    "average_precision",
    "evaluate_scores",
    "knn_scores",
    "macro_auc",
    "paired_difference",
    "patient_bootstrap",
    "precision_recall_curve",
    "roc_auc",
    "roc_curve",
    "speed_up",
    "steps_to",
]
