"""The 274 real DICOM files of the development data: each taken with the values that pydicom finds, or refused.

Run: python benchmarks/real_dicom.py [--data FOLDER]

What scoutview stores is compared with pydicom's pixel_array after the rules that scoutview declares, applied by
pydicom's own functions: modality LUT, then for radiographs VOI LUT or window, inversion, luma, black outside the
regions of an ultrasound image. A window and an inversion move and scale the values, so those are compared up to one
factor and one offset; allowed is the rounding of a stored integer. Padding is left out of the comparison.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels import apply_modality_lut, apply_voi_lut, convert_color_space, pixel_array

from scoutview.images import Image
from scoutview.ingest import RefusedError, fix_of
from scoutview.ingest.files import SourceFile
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.rules import STRICT

ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom_dev.tar.xz"


@dataclass(frozen=True)
class Account:
    """What became of a file. other: "equal", "different", or why it could not be compared; reason, detail: refused."""

    file: str
    images: int = 0
    other: str = ""
    reason: str = ""
    detail: str = ""


def accounts(folder: Path) -> Iterator[Account]:
    """One for each file of a folder but the list of files."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.csv"):
        name = path.relative_to(folder).as_posix()
        try:
            images = list(read_source_file(SourceFile(path, Path(path.name)), path, None, STRICT).images)
        except RefusedError as error:
            yield Account(name, reason=error.reason, detail=error.detail)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield Account(name, len(images), compared(path, images))


def compared(path: Path, images: list[tuple[str, Image]]) -> str:
    """Whether the images of a file are what pydicom finds in it."""
    dataset = pydicom.dcmread(path)
    try:
        stored = pixel_array(dataset, raw=True)
    except RuntimeError:
        return "no decoder in pydicom"
    frames = stored if int(dataset.get("NumberOfFrames", 1)) > 1 else stored[None]
    for index, image in images:
        frame = _tile(dataset, frames[0], int(index), image) if _is_mosaic(dataset) else frames[int(index or 0)]
        if not _agrees(dataset, frame, image, path):
            return "different"
    return "equal"


def _is_mosaic(dataset: Any) -> bool:
    return "MOSAIC" in dataset.get("ImageType", "")


def _tile(dataset: Any, frame: npt.NDArray[Any], number: int, image: Image) -> npt.NDArray[Any]:
    """The tile of a mosaic in the order of reading."""
    rows, columns = image.pixels.shape
    down, across = divmod(number, int(dataset.Columns) // columns)
    return frame[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns]


def _agrees(dataset: Any, frame: npt.NDArray[Any], image: Image, path: Path) -> bool:
    expected, valid = _expected(dataset, frame, image, path)
    found = image.pixels * np.float64(image.slope) + image.offset
    if found.shape != expected.shape:
        return False
    found, expected = found[valid], expected[valid].astype(np.float64)
    step = abs(image.slope)
    if image.window or "inverted" in image.flags:
        design = np.stack([found, np.ones_like(found)], axis=1)
        factor, offset = np.linalg.lstsq(design, expected, rcond=None)[0]
        found, step = factor * found + offset, abs(factor) * step
    return bool(np.abs(found - expected).max() <= 0.51 * step + 1e-6 * np.abs(expected).max())


def _expected(
    dataset: Any, frame: npt.NDArray[Any], image: Image, path: Path
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """(values by pydicom's functions, where they are to be compared)."""
    valid = np.ones(frame.shape[:2], np.bool_)
    if dataset.SamplesPerPixel == 3:
        rgb = frame
        if dataset.PhotometricInterpretation.startswith("YBR_FULL"):
            rgb = pixel_array(path) if dataset.get("NumberOfFrames", 1) == 1 else convert_color_space(
                frame, dataset.PhotometricInterpretation, "RGB")  # fmt: skip
        return _shown(dataset, np.rint(rgb @ np.array([0.299, 0.587, 0.114])), image), valid
    if "PixelPaddingValue" in dataset:
        limits = sorted((int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit",
                                                                          dataset.PixelPaddingValue))))  # fmt: skip
        valid = (frame < limits[0]) | (frame > limits[1])
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = pydicom.pixels.apply_color_lut(frame, dataset).astype(np.float64)
        luma = np.rint(np.rint(colours @ np.array([0.299, 0.587, 0.114])) * 255 / 65535)
        return _shown(dataset, luma, image), valid
    physical = apply_modality_lut(frame, _header_of(dataset))
    return _shown(dataset, apply_voi_lut(physical, dataset) if image.window else physical, image), valid


def _shown(dataset: Any, values: npt.NDArray[Any], image: Image) -> npt.NDArray[Any]:
    """Black outside the regions that an ultrasound image declares, where the flag says that it was masked."""
    if "text_masked" not in image.flags:
        return values
    black = np.zeros_like(values)
    for region in dataset.SequenceOfUltrasoundRegions:
        area = (slice(region.RegionLocationMinY0, region.RegionLocationMaxY1 + 1),
                slice(region.RegionLocationMinX0, region.RegionLocationMaxX1 + 1))  # fmt: skip
        black[area] = values[area]
    return black


def _header_of(dataset: Any) -> Any:
    """The elements of a modality LUT; those of an enhanced file are the same for all its frames here."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    return (shared[0].get("PixelValueTransformationSequence") or [dataset])[0]


def main() -> None:
    """Print the refusals by reason and the bars."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ARCHIVE.parent)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(parser.parse_args().data / ARCHIVE.name) as archive:
            archive.extractall(folder, filter="data")
        found = list(accounts(Path(folder)))
    refused: dict[tuple[str, str], list[str]] = {}
    for account in found:
        if account.reason:
            refused.setdefault((account.reason, account.detail), []).append(account.file)
    print("| reason | detail | files | for example | what would accept it |\n|---|---|---|---|---|")
    for (reason, detail), files in sorted(refused.items(), key=lambda item: (item[0][0], -len(item[1]))):
        print(f"| {reason} | {detail} | {len(files)} | {files[0]} | {fix_of(reason)} |")
    others = Counter(account.other for account in found if not account.reason)
    print(f"\ntaken: {sum(others.values())}, refused: {sum(map(len, refused.values()))}")
    for other, count in sorted(others.items()):
        print(f"taken, {other}: {count}" + "".join(f"\n  {a.file}" for a in found if a.other == other != "equal"))
    unexplained = sum(len(files) for (reason, detail), files in refused.items() if not (detail and fix_of(reason)))
    print(f"\nfiles accounted for: {len(found)} (bar: >= 274)")
    print(f"taken with other values than pydicom's: {others['different']} (bar: 0)")
    print(f"refusals without an explanation: {unexplained} (bar: 0)")


if __name__ == "__main__":
    main()
