"""The header of each frame of an enhanced multi-frame image, as if it were an image of its own (PS3.3 C.7.6.16).

Elements of the shared and per-frame functional groups are laid over those of the data set, the frame's own last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scoutview.ingest import dicom_header as header_of
from scoutview.ingest.refusals import RefusedError

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

_MACROS = (
    "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence",
    "FrameVOILUTSequence", "FrameContentSequence", "MREchoSequence", "MRDiffusionSequence",
    "MRTimingAndRelatedParametersSequence", "MRImageFrameTypeSequence", "CTImageFrameTypeSequence",
    "CTReconstructionSequence", "CardiacSynchronizationSequence", "TemporalPositionSequence", "MRModifierSequence",
)  # fmt: skip
_RENAMED = {
    "FrameType": "ImageType",
    "EffectiveEchoTime": "EchoTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "TemporalPositionTimeOffset": "TriggerTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "InversionTimes": "InversionTime",
}
_TAKEN = (
    "PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction", "DiffusionBValue",
    "DiffusionGradientOrientation", "ConvolutionKernel", *_RENAMED,
)  # fmt: skip


def frame_headers(header: Any, frames: int) -> Iterator[Any]:
    """A header for each frame; InstanceNumber is the number of the frame, from 1.

    Raises:
        RefusedError: bad_header when there are not as many per-frame groups as frames.
    """
    shared = header_of.value_of(header, GROUPS[0]) or []
    per_frame = header_of.value_of(header, GROUPS[1]) or []
    if len(per_frame) != frames:
        raise RefusedError("bad_header", f"{len(per_frame)} per-frame functional groups for {frames} frames")
    base = header_of.overlaid(header, _values_of(shared[0]) if shared else {})
    for group in GROUPS:
        base.pop(group, None)
    for number, item in enumerate(per_frame, start=1):
        yield header_of.overlaid(base, {**_values_of(item), "InstanceNumber": number})


def _values_of(group: Any) -> dict[str, Any]:
    """Keyword -> value of the first item of every macro of a functional group."""
    values: dict[str, Any] = {}
    for macro in _MACROS:
        items = header_of.value_of(group, macro)
        if not items:
            continue
        directions = header_of.value_of(items[0], "DiffusionGradientDirectionSequence")
        for source in (items[0], *(directions[:1] if directions else [])):
            for keyword in _TAKEN:
                value = header_of.value_of(source, keyword)
                if value is not None:
                    values[_RENAMED.get(keyword, keyword)] = value
    return values
