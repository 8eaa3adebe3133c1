"""Slices -> volumes, by their geometry and never by their numbers or names.

Slices of one size, thickness, pixel spacing, orientation and frame of reference are ordered along their normal.
Where places repeat, or distances differ, the images are told apart by what was acquired (echo, phase, b-value,
...), at last by the order of repetition; what still does not make evenly spaced volumes is refused, not mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoutview.ingest.planes import DISCRIMINATORS, SliceHeader, Vector

FEWEST_SLICES = 3
"""Two slices do not show whether they are evenly spaced; fewer than this stay single images."""
ORIENTATION_TOLERANCE = 1e-3
"""Of each direction cosine; 0.06 degrees."""
SPACING_TOLERANCE = 1e-3
"""mm, of the pixel spacing."""
SAME_PLACE = 0.01
"""mm; slices nearer than this lie at one place."""
UNEVEN_MM, UNEVEN_SHARE = 0.1, 0.05
"""A distance is uneven when it is off the median by more than both."""
TILT = 0.01
"""Shift within the plane per distance along the normal, from which a volume is sheared (a tilted gantry)."""


@dataclass(frozen=True)
class Stack:
    """A volume, or slices that should be one and are refused for `reason`.

    members: indices of the slices, in order along the normal; heights [slice]: mm along it; spacing: mm along it.
    step: from the first pixel of a slice to that of the next, in mm; it is not along the normal when the gantry
    was tilted. flags: "gap", "gantry_tilt".
    """

    members: tuple[int, ...]
    heights: tuple[float, ...]
    spacing: float
    step: Vector
    flags: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""


def assemble(slices: Sequence[SliceHeader], allow_gaps: bool = False) -> tuple[list[Stack], list[int]]:
    """(stacks, slices that belong to none) of the images of one series; every slice is in exactly one place.

    allow_gaps: keep uneven distances, flagged "gap", instead of refusing them.
    """
    stacks: list[Stack] = []
    loose: list[int] = []
    for group in _alike(slices, loose):
        for part in _parts(slices, group):
            if len(part) < FEWEST_SLICES:
                loose += part
            else:
                stacks.append(_stack(slices, part, allow_gaps))
    return sorted(stacks, key=lambda stack: min(stack.members)), sorted(loose)


def affine_of(slices: Sequence[SliceHeader], stack: Stack, place: int) -> tuple[float, ...]:
    """Row-major 3 x 4 matrix from (column, row, slices after this one, 1) to patient coordinates LPS in mm."""
    plane = slices[stack.members[place]].plane
    assert plane is not None
    columns = (
        np.multiply(plane.across, plane.spacing[1]),
        np.multiply(plane.down, plane.spacing[0]),
        np.asarray(stack.step),
        np.asarray(plane.position),
    )
    return tuple(float(value) for value in np.stack(columns, axis=1).ravel())


def _alike(slices: Sequence[SliceHeader], loose: list[int]) -> list[list[int]]:
    """Groups of slices that could be one volume, in the order of their first slices; those without plane are loose."""
    groups: list[list[int]] = []
    for index, header in enumerate(slices):
        plane = header.plane
        if plane is None:
            loose.append(index)
            continue
        for group in groups:
            first = slices[group[0]]
            assert first.plane is not None
            if (
                first.shared == header.shared
                and np.allclose(first.plane.across, plane.across, rtol=0, atol=ORIENTATION_TOLERANCE)
                and np.allclose(first.plane.down, plane.down, rtol=0, atol=ORIENTATION_TOLERANCE)
                and np.allclose(first.plane.spacing, plane.spacing, rtol=0, atol=SPACING_TOLERANCE)
            ):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _parts(slices: Sequence[SliceHeader], members: list[int]) -> list[list[int]]:
    """The volumes that a group of alike slices holds; one that cannot be told apart stays whole."""
    if len(_places(slices, members)) < FEWEST_SLICES:
        return [[index] for index in members]
    if not _trouble(slices, members)[0]:
        return [members]
    repeats = _repeats(slices, members)
    for number in range(len(DISCRIMINATORS)):
        parts = _by_value(slices, members, number)
        if repeats > 1 and 1 < len(parts) <= repeats and max(_repeats(slices, part) for part in parts) < repeats:
            return [piece for part in parts for piece in _parts(slices, part)]
        # Without repeats a split must explain every distance: any text differs somewhere.
        if repeats == 1 and len(parts) > 1 and all(_is_volume(slices, part) for part in parts):
            return parts
    phases = _by_repetition(slices, members, repeats) if repeats > 1 else []
    return phases if phases and all(_is_volume(slices, part) for part in phases) else [members]


def _is_volume(slices: Sequence[SliceHeader], members: list[int]) -> bool:
    return len(members) >= FEWEST_SLICES and not _trouble(slices, members)[0]


def _by_value(slices: Sequence[SliceHeader], members: list[int], number: int) -> list[list[int]]:
    parts: dict[str, list[int]] = {}
    for index in members:
        parts.setdefault(slices[index].distinctive[number], []).append(index)
    return list(parts.values())


def _by_repetition(slices: Sequence[SliceHeader], members: list[int], repeats: int) -> list[list[int]]:
    """The first image of every place, the second of every place, ...; none when places differ in their number."""
    orders = [slices[index].order for index in members]
    if None in orders or len(set(orders)) < len(orders):
        return []
    places = _places(slices, members)
    if any(len(place) != repeats for place in places):
        return []
    sorted_places = [sorted(place, key=lambda index: slices[index].order or (0.0, 0.0)) for place in places]
    return [[place[number] for place in sorted_places] for number in range(repeats)]


def _places(slices: Sequence[SliceHeader], members: Sequence[int]) -> list[list[int]]:
    """Slices by place along the normal, ascending."""
    heights = _heights(slices, members)
    places: list[list[int]] = []
    previous = -np.inf
    for position in np.argsort(heights, kind="stable"):
        if heights[position] - previous > SAME_PLACE:
            places.append([])
        places[-1].append(members[position])
        previous = heights[position]
    return places


def _repeats(slices: Sequence[SliceHeader], members: Sequence[int]) -> int:
    return max(len(place) for place in _places(slices, members))


def _heights(slices: Sequence[SliceHeader], members: Sequence[int]) -> npt.NDArray[np.float64]:
    """Position along the normal of the first slice, in mm [slice]."""
    first = slices[members[0]].plane
    assert first is not None
    heights: npt.NDArray[np.float64] = _positions(slices, members) @ np.asarray(first.normal)
    return heights


def _positions(slices: Sequence[SliceHeader], members: Sequence[int]) -> npt.NDArray[np.float64]:
    """Centres of the first pixels [slice, 3] in mm."""
    planes = [slices[index].plane for index in members]
    return np.array([plane.position for plane in planes if plane is not None], dtype=np.float64)


def _trouble(slices: Sequence[SliceHeader], members: Sequence[int]) -> tuple[str, str]:
    """(reason, detail) why slices are no evenly spaced volume, or ("", "")."""
    heights = _heights(slices, members)
    order = np.argsort(heights, kind="stable")
    distances = np.diff(heights[order])
    if distances.min() <= SAME_PLACE:
        counts = Counter(len(place) for place in _places(slices, members))
        twice = heights[order][int(distances.argmin())]
        number = sum(count for size, count in counts.items() if size > 1)
        return "duplicate_position", f"{number} places hold several images, the first at {twice:.2f} mm"
    spacing = _middle(distances)
    allowed = max(UNEVEN_MM, UNEVEN_SHARE * spacing)
    worst = int(np.abs(distances - spacing).argmax())
    if abs(distances[worst] - spacing) > allowed:
        return "gap", (
            f"slices {worst + 1} and {worst + 2} of {len(members)} are {distances[worst]:.2f} mm apart where the "
            f"others are {spacing:.2f} mm"
        )
    positions = _positions(slices, members)[order]
    line = np.linspace(0, 1, len(members))[:, None] * (positions[-1] - positions[0]) + positions[0]
    off = np.linalg.norm(positions - line, axis=1)
    if off.max() > 2 * allowed:
        return "shifted_slices", f"slice {int(off.argmax()) + 1} of {len(members)} lies {off.max():.2f} mm off the line"
    return "", ""


def _middle(distances: npt.NDArray[np.float64]) -> float:
    """The median, the lower of two: with one gap in three slices it is the distance without the gap."""
    return float(np.sort(distances)[(len(distances) - 1) // 2])


def _stack(slices: Sequence[SliceHeader], members: list[int], allow_gaps: bool) -> Stack:
    reason, detail = _trouble(slices, members)
    heights = _heights(slices, members)
    order = np.argsort(heights, kind="stable")
    heights = heights[order]
    positions = _positions(slices, members)[order]
    extent = heights[-1] - heights[0]
    spacing = _middle(np.diff(heights)) if reason else extent / (len(members) - 1)
    step = (positions[-1] - positions[0]) * (spacing / extent if extent > SAME_PLACE else 0.0)
    shift = np.sqrt(max(float(step @ step) - spacing**2, 0.0))
    flags = ["gantry_tilt"] if shift > TILT * spacing else []
    if reason == "gap" and allow_gaps:
        reason, detail = "", ""
        flags.insert(0, "gap")
    return Stack(
        members=tuple(members[position] for position in order),
        heights=tuple(float(height) for height in heights),
        spacing=spacing,
        step=(float(step[0]), float(step[1]), float(step[2])),
        flags=tuple(flags),
        reason=reason,
        detail=detail,
    )
