"""In: a seed and a patient number. Synthetic patients are drawn from them, by physics a docstring can explain.
Out: labelled slices in physical units (`draw_*`), or a DICOM archive with labels, boxes and masks.
The same seed gives the same bytes; `GENERATOR_VERSION` changes whenever a pixel does.
"""

from __future__ import annotations

from scoutview.phantoms.archive import write_phantoms
from scoutview.phantoms.brain_mr import draw_brain_mr
from scoutview.phantoms.finding import Box, Slice
from scoutview.phantoms.head_ct import draw_head_ct
from scoutview.phantoms.radiograph import draw_radiograph
from scoutview.phantoms.ultrasound import draw_ultrasound
from scoutview.phantoms.version import GENERATOR_VERSION

__all__ = [
    "GENERATOR_VERSION",
    "Box",
    "Slice",
    "draw_brain_mr",
    "draw_head_ct",
    "draw_radiograph",
    "draw_ultrasound",
    "write_phantoms",
]
