"""Series that readers get wrong, with the truth: a field of values over the patient, sampled by each slice.

The value of every voxel is a linear function of where it lies in the patient, so a volume is right when, at each
voxel, its affine and the field give the value that was read: order, direction, spacing, slope and origin at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import generate_uid

from scoutview.phantoms.trap_files import (
    EVERY_SYNTAX,
    Slice,
    write_directory,
    write_enhanced,
    write_mosaic,
    write_slice,
)

SLICES, SPACING = 7, 5.0
ROWS, COLUMNS = 32, 40
PIXEL = (2.0, 1.5)
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
OBLIQUE = ((0.8, 0.6, 0.0), (-0.36, 0.48, -0.8))
PHASE = 37.0
"""How much brighter the second of two images of one place is."""


@dataclass(frozen=True)
class Field:
    """value = gradient . position + constant; position in mm, DICOM's LPS. Between -1500 and 1600 in every trap."""

    gradient: tuple[float, float, float] = (15.0, 20.0, 11.0)
    constant: float = 0.0

    def at(self, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values [...] at positions [..., 3]."""
        values: npt.NDArray[np.float64] = positions @ np.array(self.gradient) + self.constant
        return values


@dataclass(frozen=True)
class Truth:
    """A volume that a reader should find. masked: voxels below this value are padding, and not compared."""

    field: Field
    slices: int
    masked: float | None = None


@dataclass(frozen=True)
class Trap:
    """write: draws the files into a folder. images: single images beside the volumes. refused: reason -> files.

    allowed: how far a value may be off; stored values are rounded to integers.
    """

    name: str
    write: Callable[[Path], None]
    volumes: tuple[Truth, ...] = ()
    images: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    allowed: float = 0.51


def largest_error(values: npt.NDArray[np.floating], affine: npt.NDArray[np.float64], truth: Truth) -> float:
    """Of a volume [slice, row, column] whose affine maps (column, row, slice, 1) to LPS in mm, against the truth."""
    slices, rows, columns = np.indices(values.shape)
    index = np.stack([columns, rows, slices, np.ones_like(rows)], axis=-1)
    expected = truth.field.at((index @ np.asarray(affine, dtype=np.float64).T)[..., :3])
    compared = np.ones(values.shape, bool) if truth.masked is None else expected >= truth.masked
    return float(np.abs(values - expected)[compared].max())


def series(directions: tuple[tuple[float, float, float], ...] = AXIAL, count: int = SLICES) -> list[Slice]:
    """Evenly spaced slices centred on the origin, in the order of their normal, with consecutive numbers."""
    across, down = np.array(directions[0]), np.array(directions[1])
    normal = np.cross(across, down)
    corner = -across * PIXEL[1] * (COLUMNS - 1) / 2 - down * PIXEL[0] * (ROWS - 1) / 2
    uid = generate_uid()
    return [
        Slice(
            position=tuple(corner + normal * SPACING * (number - (count - 1) / 2)),
            directions=(tuple(across), tuple(down)),
            spacing=PIXEL,
            shape=(ROWS, COLUMNS),
            number=number + 1,
            series=uid,
        )
        for number in range(count)
    ]


def sampled(slices: list[Slice], truth: Field = Field()) -> list[Slice]:
    """The slices with the values of a field."""
    return [replace(item, values=truth.at(item.positions())) for item in slices]


def write_all(folder: Path, slices: list[Slice], prefix: str = "", **elements: Any) -> None:
    """One file per slice, whose names are in no order."""
    names = np.random.default_rng(len(slices)).permutation(len(slices))
    for item, name in zip(slices, names, strict=True):
        write_slice(folder / f"{prefix}{name:03d}.dcm", item, **elements)


def _renumbered(numbers: list[int]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        slices = sampled(series())
        write_all(folder, [replace(item, number=number) for item, number in zip(slices, numbers, strict=True)])

    return write


def _oriented(directions: tuple[tuple[float, float, float], ...]) -> Callable[[Path], None]:
    return lambda folder: write_all(folder, sampled(series(directions)))


def _with(**elements: Any) -> Callable[[Path], None]:
    return lambda folder: write_all(folder, sampled(series()), **elements)


def _gap(folder: Path) -> None:
    slices = sampled(series())
    write_all(folder, slices[:3] + slices[4:])


def _twice(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Two images of every place in one series."""
    slices = series()
    later = [replace(item, number=item.number + SLICES, seconds=60.0) for item in slices]
    write_all(folder, sampled(slices), **first)
    write_all(folder, sampled(later, Field(constant=PHASE)), "later", **second)


def _two_series(folder: Path) -> None:
    write_all(folder, sampled(series()))
    other = [replace(item, position=tuple(np.add(item.position, (0, 0, 2.5)))) for item in series()]
    write_all(folder, sampled(other, Field(constant=PHASE)), "other")


def _mixed(folder: Path) -> None:
    slices = sampled(series())
    scout = replace(series(CORONAL, 1)[0], series=slices[0].series, number=99)
    write_all(folder, [*slices, *sampled([scout])])


def _localizer(folder: Path) -> None:
    slices = sampled(series())
    scout = replace(series(CORONAL, 1)[0], series=slices[0].series, number=99)
    write_all(folder, slices)
    write_slice(folder / "scout.dcm", sampled([scout])[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def _slopes(folder: Path) -> None:
    for number, item in enumerate(sampled(series())):
        write_slice(folder / f"{number}.dcm", replace(item, modality="MR", slope=1.0 + number / 4, intercept=-1500.0))


def _padded(folder: Path) -> None:
    for number, item in enumerate(sampled(series())):
        assert item.values is not None
        values = np.where(item.values < -700, -2000.0, item.values)
        write_slice(
            folder / f"{number}.dcm", replace(item, values=values, signed=True, intercept=0.0), PixelPaddingValue=-2000
        )


def _tilted(folder: Path) -> None:
    tilt = np.deg2rad(18)
    directions = ((1.0, 0.0, 0.0), (0.0, float(np.cos(tilt)), float(-np.sin(tilt))))
    slices = series(directions)
    moved = [
        replace(item, position=(*slices[3].position[:2], slices[3].position[2] + SPACING * (number - 3)))
        for number, item in enumerate(slices)
    ]
    write_all(folder, sampled(moved), GantryDetectorTilt=18)


def _two_spacings(folder: Path) -> None:
    slices = series(count=8)
    upper = [
        replace(item, position=tuple(np.add(item.position, (0, 0, 2.5 * (number - 3)))), thickness=7.5)
        for number, item in enumerate(slices)
        if number > 3
    ]
    write_all(folder, sampled([*slices[:4], *upper]))


def _stray(folder: Path) -> None:
    slices = sampled(series())
    write_all(folder, slices)
    write_slice(folder / "again.dcm", replace(slices[2], number=99))


def _same_file(folder: Path) -> None:
    _renumbered(list(range(1, SLICES + 1)))(folder)
    copy = next(iter(sorted(folder.glob("*.dcm"))))
    (folder / "zz_copy.dcm").write_bytes(copy.read_bytes())


def _truncated(folder: Path) -> None:
    for number, item in enumerate(sampled(series())):
        path = folder / f"{number}.dcm"
        write_slice(path, item)
        if number == 3:
            path.write_bytes(path.read_bytes()[:-500])


def _shifted(folder: Path) -> None:
    slices = series()
    slices[2] = replace(slices[2], position=tuple(np.add(slices[2].position, (8.0, 0.0, 0.0))))
    write_all(folder, sampled(slices))


def _enhanced(folder: Path) -> None:
    order = [3, 0, 6, 2, 5, 1, 4]
    slices = sampled(series(OBLIQUE))
    write_enhanced(folder / "enhanced.dcm", [slices[number] for number in order])


def _enhanced_phases(folder: Path) -> None:
    slices = series()
    write_enhanced(folder / "enhanced.dcm", [*sampled(slices), *sampled(slices, Field(constant=PHASE))], phases=2)


def _mosaic(folder: Path) -> None:
    write_mosaic(folder / "mosaic.dcm", sampled([replace(item, modality="MR") for item in series(OBLIQUE)]))


def _syntax(syntax: str) -> Callable[[Path], None]:
    return lambda folder: write_all(folder, sampled([replace(item, syntax=syntax) for item in series()]))


def _directory(folder: Path) -> None:
    _renumbered(list(range(1, SLICES + 1)))(folder / "IMAGES")
    write_directory(folder)


ONE = (Truth(Field(), SLICES),)
BOTH = (Truth(Field(), SLICES), Truth(Field(constant=PHASE), SLICES))
TRAPS = (
    Trap("plain", _renumbered([1, 2, 3, 4, 5, 6, 7]), ONE),
    Trap("reversed numbers", _renumbered([7, 6, 5, 4, 3, 2, 1]), ONE),
    Trap("numbers that mean nothing", _renumbered([3, 7, 1, 5, 2, 6, 4]), ONE),
    Trap("no instance number", _with(InstanceNumber=None), ONE),
    Trap("coronal", _oriented(CORONAL), ONE),
    Trap("sagittal", _oriented(SAGITTAL), ONE),
    Trap("oblique", _oriented(OBLIQUE), ONE),
    Trap("over-long decimals", _with(long_decimals=True), ONE),
    Trap("missing slice", _gap, refused={"gap": SLICES - 1}),
    Trap("truncated slice", _truncated, refused={"truncated": 1, "gap": SLICES - 1}),
    Trap("shifted slice", _shifted, refused={"shifted_slices": SLICES}),
    Trap("stray image of one place", _stray, refused={"duplicate_position": SLICES + 1}),
    Trap("same file twice", _same_file, ONE, refused={"duplicate_instance": 1}),
    Trap("two phases, numbered", lambda f: _twice(f, {"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}), BOTH),
    Trap("two phases, unmarked", lambda f: _twice(f, {}, {}), BOTH),
    Trap("two echoes", lambda f: _twice(f, {"EchoTime": 10}, {"EchoTime": 80}), BOTH),
    Trap("two series in a folder", _two_series, BOTH),
    Trap("two spacings", _two_spacings, (Truth(Field(), 4), Truth(Field(), 4))),
    Trap("coronal scout among axial", _mixed, ONE, images=1),
    Trap("localizer", _localizer, ONE, refused={"localizer": 1}),
    Trap("slope per slice", _slopes, ONE, allowed=1.3),
    Trap("padding value", _padded, (Truth(Field(), SLICES, masked=-700.0),)),
    Trap("tilted gantry", _tilted, ONE),
    Trap("enhanced multi-frame", _enhanced, ONE),
    Trap("enhanced, two phases", _enhanced_phases, BOTH),
    Trap("mosaic", _mosaic, ONE),
    Trap("DICOMDIR", _directory, ONE, refused={"not_an_image_class": 1}),
    *(Trap(f"compressed, {name}", _syntax(syntax), ONE) for name, syntax in EVERY_SYNTAX.items()),
)
