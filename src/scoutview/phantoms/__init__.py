"""In: a seed and a patient number. Synthetic patients are drawn from them, by physics a docstring can explain.
Out: labelled slices in physical units (`draw_*`), or a DICOM archive with labels, boxes and masks.
The same seed gives the same bytes; `GENERATOR_VERSION` changes whenever a pixel does.
"""

from __future__ import annotations

from .archive import write_phantoms
from .brain_mr import draw_brain_mr
from .finding import Box, Slice
from .head_ct import draw_head_ct
from .radiograph import draw_radiograph
from .ultrasound import draw_ultrasound
from .version import GENERATOR_VERSION

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
