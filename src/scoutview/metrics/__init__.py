"""In: scores, targets and patient keys as numpy arrays. Out: figures with 95% intervals over patients.

Pure functions; numpy only; wrong shapes or values raise `scoutview.errors.UsageError`.
Public: the areas and curves of `auc`, the intervals of `bootstrap`, fROC, `knn_scores`, `speed_up`, `evaluate_scores`.
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
from scoutview.metrics.froc import (
    Hits,
    evaluate_froc,
    find_hits,
    froc_curve,
    froc_score,
    froc_sensitivities,
)
from scoutview.metrics.knn import knn_scores
from scoutview.metrics.matching import MatchingRule

__all__ = [
    "Hits",
    "Interval",
    "MatchingRule",
    "SpeedUp",
    "accuracy",
    "average_precision",
    "evaluate_froc",
    "evaluate_scores",
    "find_hits",
    "froc_curve",
    "froc_score",
    "froc_sensitivities",
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
