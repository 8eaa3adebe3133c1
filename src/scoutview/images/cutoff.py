"""Where a rescaled image ends in frequency: a raised cosine around the Nyquist frequency of its pixels.

Its kernel is 0 at every whole pixel but its own, so an image that is not rescaled stays as it is, and it ends within a
few pixels; what is left above the Nyquist frequency is folded below it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROLL = 0.5
END = 1 + ROLL
"""Where nothing is left, in units of the Nyquist frequency. A wider cut has shorter kernels and depends more on where
the frequencies of an image point to, a narrower one the reverse."""

Numbers = npt.NDArray[np.float64]


def roll_off(frequency: Numbers) -> Numbers:
    """1 up to half the Nyquist frequency, 0 from 1.5 times it; in units of it, along one axis."""
    rolled: Numbers = 0.5 + 0.5 * np.cos(np.clip((frequency - 1 + ROLL) / (2 * ROLL), 0.0, 1.0) * np.pi)
    return rolled


def share_passed(radius: Numbers, relative: Numbers) -> Numbers:
    """Share of the power of an isotropic image at these radii, in units of the Nyquist frequency, that a view has.

    relative: scale of the view relative to the pixels that it is sampled from, at most 1. Above 1 / END some of what
    these mirror above their own Nyquist frequency passes, too; how it adds up depends on the place, this is the mean.
    """
    row = np.rint(np.clip((relative - _LEAST) / (1 - _LEAST), 0, 1) * (_ROWS - 1)).astype(np.intp)
    place = np.minimum(radius / _LARGEST, 1.0) * (_PLACES - 1)
    low = np.minimum(place.astype(np.intp), _PLACES - 2)
    weight = place - low
    share: Numbers = (1 - weight) * _SHARES[row, low] + weight * _SHARES[row, low + 1]
    return share


_LEAST, _LARGEST = 1 / END, END * np.sqrt(2)
_ROWS, _PLACES, _ANGLES = 33, 256, 48


def _shares() -> Numbers:
    """[relative scale, radius]: both axes' shares multiplied, their mean over the angles."""
    radius = np.linspace(0, _LARGEST, _PLACES)
    angle = (np.arange(_ANGLES) + 0.5) / _ANGLES * np.pi / 2
    table = np.empty((_ROWS, _PLACES))
    for row, relative in enumerate(np.linspace(_LEAST, 1, _ROWS)):

        def axis(frequency: Numbers, end: float = 1 / relative) -> Numbers:
            passed = np.square(roll_off(frequency)) + np.square(roll_off(2 * end - frequency))
            return np.where(frequency <= end, passed, 0.0)

        table[row] = (axis(np.outer(radius, np.cos(angle))) * axis(np.outer(radius, np.sin(angle)))).mean(1)
    return table


_SHARES = _shares()
