"""Drawing the parameters of views: a small table per image, keyed by (seed, step, position in the batch), a row a view.

The same key gives the same numbers whatever the number of workers or ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import special

from scoutview.images import BANDS, Spectrum, band_energies

Numbers = npt.NDArray[np.float64]

SMALLEST_ENERGY = 1e-6

ViewSize = int | tuple[int, int] | tuple[int, int, int]
"""The side of a square view in px, or its (rows, columns); of volumes (slices, rows, columns)."""


def in_plane(size: ViewSize) -> tuple[int, int]:
    """(rows, columns) of a view in px."""
    return (size, size) if isinstance(size, int) else (size[-2], size[-1])


def slices_of(size: ViewSize) -> int:
    """Slices of a view; one for views of images."""
    return size[0] if isinstance(size, tuple) and len(size) == 3 else 1


@dataclass(frozen=True)
class ViewSettings:
    """How views are drawn; the defaults are the paper's (Table I, section III-C).

    crops, sizes: how many views of which size in px, per kind: first the large ones.
    fraction, short_sides: the rescale factor is U[fraction] of the native size, the short side then clamped to
        short_sides px; where 0.7 of the native short side does not reach the lower bound, the short side is
        U[crop, native] instead. With no fraction the short side is U[short_sides], whatever the native size.
    visible: (low, high) per kind: instead, the crop shows this share of the short side. It is for small images,
        where the paper's rule would show nearly all of every image.
    In these rules, `crop` is the short side of the smallest image of the same shape that the crop fits in. Volumes are
    rescaled within their slices only; of these a view has as many as its size says.
    energy, gamma_chance, linear_chance: probability of each of the three intensity augmentations.
    gamma, gain, bias: ranges of the exponent, of a and of b in a I + b, on [0, 1].
    photo: whether views are also augmented as photographs are; see photo.py.
    """

    crops: tuple[int, ...] = (2, 6)
    sizes: tuple[ViewSize, ...] = (224, 92)
    fraction: tuple[float, float] | None = (0.1, 0.7)
    short_sides: tuple[float, float] = (600.0, 1200.0)
    visible: tuple[tuple[float, float], ...] | None = None
    energy: float = 0.5
    gamma_chance: float = 0.5
    gamma: tuple[float, float] = (1.8, 2.6)
    linear_chance: float = 0.5
    gain: tuple[float, float] = (0.9, 1.1)
    bias: tuple[float, float] = (-0.2, 0.2)
    photo: bool = False

    def view_sizes(self) -> list[ViewSize]:
        """The size of each view, in order."""
        return [size for count, size in zip(self.crops, self.sizes, strict=True) for _ in range(count)]


@dataclass(frozen=True)
class ReferenceEnergies:
    """Of one modality: mean and sd of e_k over the references [grid, 6], by the view's short side [grid] in px."""

    short_sides: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From the entry of a modality in store.json."""
        return cls(
            np.asarray(values["short_sides"], dtype=np.float64),
            np.asarray(values["mean"], dtype=np.float64),
            np.asarray(values["deviation"], dtype=np.float64),
        )

    def at(self, short_side: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and sd [6] at a view's scale, linear in the logarithm of the short side."""
        position = np.interp(np.log(short_side), np.log(self.short_sides), np.arange(len(self.short_sides)))
        low = min(int(position), len(self.short_sides) - 2)
        weight = position - low
        return (
            (1 - weight) * self.mean[low] + weight * self.mean[low + 1],
            (1 - weight) * self.deviation[low] + weight * self.deviation[low + 1],
        )


@dataclass(frozen=True)
class DepthParameters:
    """Drawn parameters of the views [view] of one volume along its depth.

    front: first slice of the view; it and the last may lie outside the volume, which is mirrored there. thickness:
    from a slice to the next in px of the view, so that band k is as wide as sigma_k / thickness slices.
    """

    front: npt.NDArray[np.float32]
    thickness: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ViewParameters:
    """Drawn parameters of the views [view] of one image or volume.

    scale: rescale factor of the native image. top, left: the crop's corner in px of the rescaled image.
    bands [view, 6]: lambda_k = eref_k / e_k of Eq. 8, 1 where the energy augmentation was not drawn.
    gamma, gain, bias: 1, 1, 0 where not drawn. depth: of volumes.
    """

    scale: npt.NDArray[np.float32]
    top: npt.NDArray[np.float32]
    left: npt.NDArray[np.float32]
    bands: npt.NDArray[np.float32]
    gamma: npt.NDArray[np.float32]
    gain: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    depth: DepthParameters | None = None


def largest_scale(settings: ViewSettings, shape: tuple[int, int]) -> float:
    """The largest rescale factor that `draw_parameters` can draw for an image of `shape` [row, column] px."""
    ends = [_short_sides(settings, shape, np.full(sum(settings.crops), end)) for end in (0.0, 1.0)]
    return float(np.max(ends)) / min(shape)


def draw_scale(settings: ViewSettings, shape: tuple[int, int], *, seed: int, step: int, position: int) -> float:
    """The largest rescale factor that `draw_parameters` draws for the same key; nothing of the image is needed."""
    where = _draws(settings, seed, step, position)[:, 0]
    return float(np.max(_short_sides(settings, shape, where))) / min(shape)


def draw_parameters(
    settings: ViewSettings,
    shape: tuple[int, int],
    spectrum: Spectrum,
    references: ReferenceEnergies,
    *,
    seed: int,
    step: int,
    position: int,
    level: int = 0,
) -> ViewParameters:
    """Draw the views of one image of `shape` [row, column] px. A pure function of its arguments.

    level: of the reduced read that the views come from, which changes their band energies; see `band_energies`.
    """
    return _parameters(settings, shape, spectrum, references, _draws(settings, seed, step, position), level)


def draw_volume_parameters(
    settings: ViewSettings,
    shape: tuple[int, int, int],
    thickness: float,
    spectrum: Spectrum,
    references: ReferenceEnergies,
    *,
    seed: int,
    step: int,
    position: int,
) -> ViewParameters:
    """Draw the views of one volume of `shape` [slice, row, column]. A pure function of its arguments.

    thickness: from a slice to the next in px of the slices. Slices of a view lie anywhere in the volume; a volume of
    fewer lies in its middle.
    """
    draws = _draws(settings, seed, step, position, more=1)
    drawn = _parameters(settings, shape[1:], spectrum, references, draws, 0)
    left = shape[0] - np.array([slices_of(size) for size in settings.view_sizes()])
    # Every whole slice is as likely; a number below 1 times left + 1 never reaches it.
    front = np.where(left >= 0, np.floor(draws[:, -1] * (np.maximum(left, 0) + 1)), left // 2)
    return replace(drawn, depth=DepthParameters(front.astype(np.float32), drawn.scale * np.float32(thickness)))


def _parameters(
    settings: ViewSettings,
    shape: tuple[int, int],
    spectrum: Spectrum,
    references: ReferenceEnergies,
    draws: Numbers,
    level: int,
) -> ViewParameters:
    """What images and volumes have in common."""
    sizes = _planes(settings)
    where, above, beside, energy, gamma, linear, exponent, factor, shift = draws[:, :9].T
    short_sides = _short_sides(settings, shape, where)
    scale = short_sides / min(shape)
    drawn = energy < settings.energy
    bands = np.ones((len(sizes), BANDS))
    if drawn.any():
        moments = [references.at(side) for side in short_sides]
        mean, deviation = (np.array(column) for column in zip(*moments, strict=True))
        wanted = mean + deviation * _truncated_normal(draws[:, 9 : 9 + BANDS])
        present = band_energies(spectrum, scale, level)
        usable = drawn[:, None] & (present > SMALLEST_ENERGY) & (wanted > 0)
        bands = np.where(usable, wanted / np.maximum(present, SMALLEST_ENERGY), 1.0)
    columns = (
        scale,
        above * np.maximum(shape[0] * scale - sizes[:, 0], 0.0),
        beside * np.maximum(shape[1] * scale - sizes[:, 1], 0.0),
        bands,
        np.where(gamma < settings.gamma_chance, _between(settings.gamma, exponent), 1.0),
        np.where(linear < settings.linear_chance, _between(settings.gain, factor), 1.0),
        np.where(linear < settings.linear_chance, _between(settings.bias, shift), 0.0),
    )
    first, top, left, weights, exponents, gains, shifts = (column.astype(np.float32) for column in columns)
    return ViewParameters(first, top, left, weights, exponents, gains, shifts)


def _draws(settings: ViewSettings, seed: int, step: int, position: int, more: int = 0) -> Numbers:
    """Uniform numbers [view, draw]: always all of them, so that no option and no other view shifts a view's numbers."""
    return _generator(seed, step, position).random((sum(settings.crops), 9 + BANDS + more))


def later_draws(views: int, count: int, *, seed: int, step: int, position: int) -> Numbers:
    """Uniform numbers [view, draw] of the same key, behind those of `draw_parameters`."""
    generator = _generator(seed, step, position)
    generator.random((views, 9 + BANDS))
    return generator.random((views, count))


def _generator(seed: int, step: int, position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, position, step]))


def _between(bounds: tuple[float, float], uniform: Numbers) -> Numbers:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def _truncated_normal(uniform: Numbers) -> Numbers:
    """Standard normals truncated to [-1, 1], by the inverse of their distribution function."""
    low, high = special.ndtr(-1.0), special.ndtr(1.0)
    normal: Numbers = special.ndtri(low + (high - low) * uniform)
    return normal


def _planes(settings: ViewSettings) -> Numbers:
    """(rows, columns) of the views [view, axis] in px."""
    return np.array([in_plane(size) for size in settings.view_sizes()], dtype=np.float64)


def _short_sides(settings: ViewSettings, shape: tuple[int, int], uniform: Numbers) -> Numbers:
    """Short side [view] of the rescaled image in px: never below the crop, above the native one only for that."""
    native = min(shape)
    sizes: Numbers = (_planes(settings) * (native / np.array(shape))).max(1)
    largest = np.maximum(native, sizes)
    if settings.visible is not None:
        ranges = np.repeat(np.array(settings.visible), settings.crops, axis=0)
        shares = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * uniform
        shown: Numbers = np.clip(sizes / shares, sizes, largest)
        return shown
    low, high = settings.short_sides
    if settings.fraction is None:
        between: Numbers = np.maximum(low, sizes)
        return between + np.maximum(high - between, 0.0) * uniform
    if settings.fraction[1] * native <= low:
        drawn: Numbers = sizes + (largest - sizes) * uniform
        return drawn
    clamped: Numbers = np.maximum(np.clip(_between(settings.fraction, uniform) * native, low, high), sizes)
    return clamped
