"""DICOM Segmentation objects (PS3.3 A.51, C.8.20) -> masks of the images that their frames refer to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError

from scoutview.errors import UsageError
from scoutview.ingest.layouts.entries import Entry, Mask

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, Label Map Segmentation Storage."""


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM Segmentation."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except (InvalidDicomError, OSError):
        return False
    return str(header.get("SOPClassUID", "")) in SOP_CLASSES


def read_segmentation(path: Path) -> Iterator[Entry]:
    """The masks of each segment, named by its label, keyed by the SOP Instance UID of the image of each frame.

    A binary frame is 1 where the segment is, a fractional one at half of MaximumFractionalValue or more, one of a
    label map holds segment numbers. An image that the object lists, with no frame of a segment, has none of it:
    empty frames may be left out. A frame of a multi-frame image is "UID#<frame>" with frames from 1.

    Raises:
        UsageError: it cannot be read, or a frame refers to no image or to several (its masks were resampled).
    """
    try:
        header = pydicom.dcmread(path)
        frames = np.asarray(header.pixel_array)
        segments = {int(item.SegmentNumber): str(item.SegmentLabel).strip() for item in header.SegmentSequence}
        kind = str(header.SegmentationType)
        highest = int(header.get("MaximumFractionalValue", 1))
        places = [_frame_of(header, number, path) for number in range(int(header.NumberOfFrames))]
    except (InvalidDicomError, OSError, AttributeError, KeyError, IndexError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is no DICOM Segmentation that can be read ({error}): export it again") from error
    frames = frames.reshape((len(places), *frames.shape[-2:]))
    images: dict[str, dict[str, npt.NDArray[np.bool_]]] = {image: {} for image in _listed(header)}
    for frame, (image, segment) in zip(frames, places, strict=True):
        for number, bitmap in _segments_in(frame, kind, segment, highest):
            name = segments.get(number, "")
            if not name:
                raise UsageError(f"{path}: a frame names segment {number}, which is not listed: export it again")
            known = images.setdefault(image, {})
            known[name] = known[name] | bitmap if name in known else bitmap
    names = sorted(set(segments.values()))
    for image, masks in images.items():
        present = {name: mask for name, mask in masks.items() if mask.any()}
        yield Entry(
            f"{path.name} image {image}",
            id=image,
            masks=tuple(Mask(name, mask) for name, mask in present.items()),
            no_masks=tuple(name for name in names if name not in present),
        )


def _segments_in(
    frame: npt.NDArray[Any], kind: str, segment: int, highest: int
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    if kind == "LABELMAP":
        yield from ((int(value), frame == value) for value in np.unique(frame) if value)
    elif kind == "FRACTIONAL":
        yield segment, 2 * frame.astype(np.int64) >= max(highest, 1)
    else:
        yield segment, frame != 0


def _frame_of(header: Any, number: int, path: Path) -> tuple[str, int]:
    """(the image, the segment) of a frame: from its own functional groups, else from the shared ones."""
    own = header.PerFrameFunctionalGroupsSequence[number]
    shared = header.SharedFunctionalGroupsSequence[0] if header.get("SharedFunctionalGroupsSequence") else own
    derivations = own.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or ()
    sources = [source for item in derivations for source in item.get("SourceImageSequence", ())]
    if len(sources) != 1:
        raise UsageError(
            f"{path}: frame {number + 1} refers to {len(sources)} images, which happens when masks were resampled: "
            "export the segmentation on the grid of its images"
        )
    image = str(sources[0].ReferencedSOPInstanceUID)
    frame = sources[0].get("ReferencedFrameNumber")
    identification = own.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    segment = int(identification[0].ReferencedSegmentNumber) if identification else 0
    return (f"{image}#{frame}" if frame else image), segment


def _listed(header: Any) -> list[str]:
    """The images that the object says it was made from."""
    series = header.get("ReferencedSeriesSequence") or ()
    return [
        str(item.ReferencedSOPInstanceUID)
        for entry in series
        for item in (entry.get("ReferencedInstanceSequence") or ())
    ]
