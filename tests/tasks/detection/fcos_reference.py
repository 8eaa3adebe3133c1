"""FCOS in float64 loops, from the definitions of Tian et al. 2019 (and their 2020 centre sampling): slow and plain."""

from __future__ import annotations

import math

import numpy as np

Box = tuple[float, float, float, float]
STRIDES = (8, 16, 32, 64, 128)
UP_TO = (0.0, 64.0, 128.0, 256.0, 512.0, math.inf)


def locations(shapes: list[tuple[int, int]]) -> list[tuple[float, float, int, int]]:
    """(x, y, level, stride) of all places, level by level and row by row: (floor(s/2) + x s, floor(s/2) + y s)."""
    return [
        (stride // 2 + column * stride, stride // 2 + row * stride, level, stride)
        for level, ((rows, columns), stride) in enumerate(zip(shapes, STRIDES, strict=True))
        for row in range(rows)
        for column in range(columns)
    ]


def target(x: float, y: float, level: int, stride: int, boxes: list[Box]) -> tuple[int, list[float], float]:
    """(number of the box or -1, its four distances, centre-ness) of one location."""
    best, best_area = -1, math.inf
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        left, top, right, bottom = x - x0, y - y0, x1 - x, y1 - y
        if min(left, top, right, bottom) <= 0:
            continue
        center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
        reach = 1.5 * stride
        sub_box = (center_x - reach, center_y - reach, center_x + reach, center_y + reach)
        if not (sub_box[0] < x < sub_box[2] and sub_box[1] < y < sub_box[3]):
            continue
        if not UP_TO[level] < max(left, top, right, bottom) <= UP_TO[level + 1]:
            continue
        area = (x1 - x0) * (y1 - y0)
        if area < best_area:
            best, best_area = number, area
    if best < 0:
        return -1, [0.0] * 4, 0.0
    x0, y0, x1, y1 = boxes[best]
    left, top, right, bottom = x - x0, y - y0, x1 - x, y1 - y
    centerness = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
    return best, [left, top, right, bottom], centerness


def area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def overlap(a: Box, b: Box) -> float:
    common = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - common
    return common / union if union > 0 else 0.0


def giou(a: Box, b: Box) -> float:
    common = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - common
    hull = area((min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])))
    return common / union - (hull - union) / hull


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def focal(logits: np.ndarray, classes: np.ndarray, alpha: float = 0.25, gamma: float = 2.0) -> float:
    total = 0.0
    for row, name in zip(logits.reshape(-1, logits.shape[-1]), classes.ravel(), strict=True):
        for column, value in enumerate(row):
            p = sigmoid(value)
            p_t, alpha_t = (p, alpha) if column == name else (1 - p, 1 - alpha)
            total -= alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return total


def cross_entropy(logit: float, expected: float) -> float:
    p = sigmoid(logit)
    return -(expected * math.log(p) + (1 - expected) * math.log(1 - p))


def suppressed(entries: list[tuple[float, int, Box]], limit: float) -> list[tuple[float, int, Box]]:
    """Of (score, class, box), those that no kept one of the same class and before them overlaps by more than limit."""
    kept: list[tuple[float, int, Box]] = []
    for entry in sorted(entries, key=lambda entry: -entry[0]):
        if all(other[1] != entry[1] or overlap(other[2], entry[2]) <= limit for other in kept):
            kept.append(entry)
    return kept


def decoded(
    logits: np.ndarray,
    distances: np.ndarray,
    centerness: np.ndarray,
    places: list[tuple[float, float, int, int]],
    inside: Box,
    per_level: int = 1000,
    per_image: int = 100,
) -> list[tuple[float, int, Box]]:
    """(score, class, box) of one image by falling score."""
    entries: list[tuple[float, int, Box]] = []
    for level in range(5):
        candidates = []
        for number, (x, y, own, _) in enumerate(places):
            if own != level or not (inside[0] <= x < inside[2] and inside[1] <= y < inside[3]):
                continue
            left, top, right, bottom = distances[number]
            box = (
                max(x - left, inside[0]),
                max(y - top, inside[1]),
                min(x + right, inside[2]),
                min(y + bottom, inside[3]),
            )
            for name, logit in enumerate(logits[number]):
                score = math.sqrt(sigmoid(logit) * sigmoid(centerness[number]))
                if score > 0.05:
                    candidates.append((score, name, box))
        entries += sorted(candidates, key=lambda entry: -entry[0])[:per_level]
    return suppressed([entry for entry in entries if area(entry[2]) > 0], 0.6)[:per_image]


def convolved(image: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int = 1) -> np.ndarray:
    """[channel, row, column] with [out, in, k, k], zeros beyond the border, "same" padding."""
    size = weight.shape[-1]
    around = size // 2
    padded = np.pad(image, ((0, 0), (around, around), (around, around)))
    rows, columns = (-(-length // stride) for length in image.shape[1:])
    result = np.zeros((len(weight), rows, columns))
    for row in range(rows):
        for column in range(columns):
            patch = padded[:, row * stride : row * stride + size, column * stride : column * stride + size]
            result[:, row, column] = (weight * patch[None]).sum(axis=(1, 2, 3))
    return result if bias is None else result + bias[:, None, None]


def group_normalised(image: np.ndarray, groups: int, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    parts = [(part - part.mean()) / np.sqrt(part.var() + 1e-5) for part in np.split(image, groups)]
    return np.concatenate(parts) * weight[:, None, None] + bias[:, None, None]
