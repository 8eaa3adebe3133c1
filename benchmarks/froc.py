"""How long a fROC with intervals over patients takes: 100,000 detections on 10,000 images, 2000 resamples.

Run: python benchmarks/froc.py
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from scoutview.metrics import MatchingRule, evaluate_froc, find_hits

IMAGES, TRUTHS, DETECTIONS, ROUNDS = 10_000, 6_000, 100_000, 2000


def boxes(generator: np.random.Generator, number: int) -> npt.NDArray[np.float64]:
    """Boxes of 20 to 120 px within 1020 px: [number, 4]."""
    corners = generator.uniform(0, 900, (number, 2))
    return np.concatenate([corners, corners + generator.uniform(20, 120, (number, 2))], axis=1)


def main() -> None:
    """Half of the truths are found within a few px; the other detections are anywhere."""
    generator = np.random.default_rng(0)
    truth_images, truths = generator.integers(IMAGES, size=TRUTHS), boxes(generator, TRUTHS)
    images, found = generator.integers(IMAGES, size=DETECTIONS), boxes(generator, DETECTIONS)
    seen = generator.permutation(TRUTHS)[: TRUTHS // 2]
    images[: len(seen)] = truth_images[seen]
    found[: len(seen)] = truths[seen] + generator.uniform(-3, 3, (len(seen), 4))
    patients = generator.integers(IMAGES // 2, size=IMAGES)
    begin = time.perf_counter()
    hits = find_hits(
        images, found, generator.random(DETECTIONS), truth_images, truths, IMAGES, MatchingRule("iou", 0.1)
    )
    matched = time.perf_counter()
    score = evaluate_froc(hits, patients, ROUNDS)["score"]
    print(f"score {score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]")
    print(f"matching, detections per second: {DETECTIONS / (matched - begin):.0f} (bar: >= 100000)")
    print(f"intervals, resamples per second: {ROUNDS / (time.perf_counter() - matched):.0f} (bar: >= 200)")


if __name__ == "__main__":
    main()
