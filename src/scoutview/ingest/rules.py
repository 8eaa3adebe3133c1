"""What the user allows beyond the strict rules; the defaults refuse what may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Gaps = Literal["refuse", "allow"]
UltrasoundText = Literal["mask", "refuse"]
Air = Literal["required", "optional"]


@dataclass(frozen=True)
class Rules:
    """gaps: unevenly spaced slices of a series are refused, or kept as a volume that is flagged "gap".

    ultrasound_text: what lies outside the declared regions of an ultrasound image is blackened; an image that
    declares none is kept and flagged ("mask"), or refused ("refuse"). air: a CT volume (or single slice) that
    holds no air is refused as not calibrated, or kept.
    """

    gaps: Gaps = "refuse"
    ultrasound_text: UltrasoundText = "mask"
    air: Air = "required"


STRICT = Rules()
