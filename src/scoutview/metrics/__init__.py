"""In: scores, targets and patient keys as numpy arrays. Out: figures with 95% intervals over patients.

Pure functions; numpy only; wrong shapes or values raise `scoutview.errors.UsageError`.
Public: areas and curves of `auc`, calibration, fROC, intervals, paired tests, comparisons of two models, robustness,
`knn_scores`, neighbours, `speed_up`.
"""

from scoutview.metrics.auc import (
    accuracy,
    average_precision,
    macro_auc,
    precision_recall_curve,
    roc_auc,
    roc_curve,
    sensitivity_at_specificity,
)
from scoutview.metrics.bootstrap import Interval, paired_difference, patient_bootstrap
from scoutview.metrics.calibration import Reliability, brier_score, expected_calibration_error, reliability
from scoutview.metrics.classification import evaluate_scores
from scoutview.metrics.comparison import CaseScores, MovedScores, compare_models, compare_robustness
from scoutview.metrics.convergence import SpeedUp, own_speed_up, speed_up, steps_to
from scoutview.metrics.detection import (
    ClassBoxes,
    case_errors,
    case_table,
    evaluate_detections,
    hits_of_class,
    mean_froc,
    mean_froc_draws,
)
from scoutview.metrics.dice import dice, dice_interval, overlaps
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
from scoutview.metrics.neighbours import nearest_centres, nearest_neighbours, unit_vectors
from scoutview.metrics.paired import PairedTest, froc_test, paired_test
from scoutview.metrics.robustness import box_plot, evaluate_robustness, relative_changes, robustness_draws

__all__ = [
    "CaseScores",
    "ClassBoxes",
    "Hits",
    "Interval",
    "MatchingRule",
    "MovedScores",
    "PairedTest",
    "Reliability",
    "SpeedUp",
    "accuracy",
    "average_precision",
    "box_plot",
    "brier_score",
    "case_errors",
    "case_table",
    "compare_models",
    "compare_robustness",
    "dice",
    "dice_interval",
    "evaluate_detections",
    "evaluate_froc",
    "evaluate_robustness",
    "evaluate_scores",
    "expected_calibration_error",
    "find_hits",
    "froc_curve",
    "froc_score",
    "froc_sensitivities",
    "froc_test",
    "hits_of_class",
    "knn_scores",
    "macro_auc",
    "mean_froc",
    "mean_froc_draws",
    "nearest_centres",
    "nearest_neighbours",
    "overlaps",
    "own_speed_up",
    "paired_difference",
    "paired_test",
    "patient_bootstrap",
    "precision_recall_curve",
    "relative_changes",
    "reliability",
    "robustness_draws",
    "roc_auc",
    "roc_curve",
    "sensitivity_at_specificity",
    "speed_up",
    "steps_to",
    "unit_vectors",
]
