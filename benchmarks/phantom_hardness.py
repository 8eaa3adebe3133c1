"""Can a finding in a phantom be told from brightness alone?

Two classifiers that see no shape are trained for every label, one image or slice at a time:

threshold: the fraction of pixels above a value (32 values over the images' range). The value, and whether more
or fewer bright pixels speak for the finding, are chosen on half of the patients; the AUC is measured on the
others, and max(auc, 1 - auc) counts.

histogram: 64 bins of the intensities, scaled by each image's 0.5 and 99.5 percentiles, into a standardised
logistic regression, cross-validated in five folds of patients. For CT a second histogram, of -100..200 HU
unscaled, is tried too, and the better of the two counts.

Ends with one line per figure. The bar is an upper one: a network has to look at shape to do better.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoutview.phantoms import (
    GENERATOR_VERSION,
    Slice,
    draw_brain_mr,
    draw_head_ct,
    draw_radiograph,
    draw_ultrasound,
)

BAR = 0.75
BINS = 64
SEED = 20_000

Table = npt.NDArray[np.float64]

DRAW: dict[str, Callable[[int], list[Slice]]] = {
    "xray": lambda index: [draw_radiograph(SEED, index)],
    "ct": lambda index: draw_head_ct(SEED, index),
    "mr": lambda index: draw_brain_mr(SEED, index),
    "us": lambda index: [draw_ultrasound(SEED, index)],
}


def scaled_histogram(pixels: npt.NDArray[np.float32]) -> Table:
    """Shares [bin] of the intensities, 0.5 percentile in the first bin and 99.5 percentile in the last."""
    low, high = np.percentile(pixels, [0.5, 99.5])
    scaled = np.clip((pixels - low) / max(high - low, 1e-6), 0.0, 1.0)
    return np.histogram(scaled, BINS, (0.0, 1.0))[0] / pixels.size


def window_histogram(pixels: npt.NDArray[np.float32]) -> Table:
    """Shares [bin] of -100..200 HU; what lies outside is in no bin."""
    return np.histogram(pixels, BINS, (-100.0, 200.0))[0] / pixels.size


def fractions_above(pixels: npt.NDArray[np.float32], thresholds: Table) -> Table:
    """The share of pixels above each threshold."""
    ordered = np.sort(pixels, axis=None)
    return 1.0 - np.searchsorted(ordered, thresholds, side="right") / ordered.size


def threshold_auc(fractions: Table, truth: npt.NDArray[np.int64], patients: npt.NDArray[np.int64]) -> float:
    """AUC on the odd patients of the threshold that is best on the even ones, and the other way round: the mean."""
    results = []
    for parity in (0, 1):
        chosen = patients % 2 == parity
        on_chosen = [roc_auc_score(truth[chosen], fractions[chosen, k]) for k in range(fractions.shape[1])]
        best = int(np.argmax(np.abs(np.array(on_chosen) - 0.5)))
        auc = float(roc_auc_score(truth[~chosen], fractions[~chosen, best]))
        results.append(max(auc, 1.0 - auc))
    return float(np.mean(results))


def histogram_auc(histograms: Table, truth: npt.NDArray[np.int64], patients: npt.NDArray[np.int64]) -> float:
    """AUC of the held-out scores of a logistic regression over five folds of patients."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    scores = cross_val_predict(model, histograms, truth, groups=patients, cv=GroupKFold(5), method="decision_function")
    auc = float(roc_auc_score(truth, scores))
    return max(auc, 1.0 - auc)


def measure(modality: str, count: int) -> list[str]:
    """The lines of one modality."""
    draw = DRAW[modality]
    sample = np.concatenate([image.pixels[::8, ::8].ravel() for index in range(10) for image in draw(index)])
    thresholds = np.unique(np.percentile(sample, np.linspace(1, 99, 32)))
    if modality == "ct":
        # Few percentiles fall between brain and bone, where blood is.
        thresholds = np.unique(np.concatenate([thresholds, np.arange(0.0, 100.0, 4.0)]))
    owners: list[int] = []
    labels: dict[str, list[int]] = {}
    fractions: list[Table] = []
    histograms: dict[str, list[Table]] = {"scaled": [], "window": []}
    for index in range(count):
        for image in draw(index):
            owners.append(index)
            fractions.append(fractions_above(image.pixels, thresholds))
            histograms["scaled"].append(scaled_histogram(image.pixels))
            if modality == "ct":
                histograms["window"].append(window_histogram(image.pixels))
            for label, value in image.labels.items():
                labels.setdefault(label, []).append(value)
    patients = np.array(owners)
    lines = []
    for label, values in labels.items():
        truth = np.array(values)
        print(f"{label}: {int(truth.sum())} of {len(truth)} images, {count} patients", flush=True)
        threshold = threshold_auc(np.array(fractions), truth, patients)
        histogram = max(histogram_auc(np.array(h), truth, patients) for h in histograms.values() if h)
        lines.append(f"threshold {label} AUC: {threshold:.2f} (bar: < {BAR})")
        lines.append(f"histogram {label} AUC: {histogram:.2f} (bar: < {BAR})")
    return lines


def main() -> None:
    """Measure every modality, and print the areas with their bars."""
    parser = argparse.ArgumentParser(description="How well brightness alone finds the phantoms' labels.")
    parser.add_argument("--patients", type=int, default=400, help="patients of each modality")
    arguments = parser.parse_args()
    print(f"phantom generator version {GENERATOR_VERSION}")
    lines = [line for modality in DRAW for line in measure(modality, arguments.patients)]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
