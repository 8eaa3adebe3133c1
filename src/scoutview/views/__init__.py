"""Augmented views of an image (spec section 4): parameters are drawn first, then applied batched on the device.

In: unit-range images as DCT coefficients, their spectra, keyed parameters. Out: crops [view, image, 1, row, column].
"""

from scoutview.views.parameters import (
    ReferenceEnergies,
    ViewParameters,
    ViewSettings,
    draw_parameters,
    draw_scale,
    largest_scale,
)
from scoutview.views.reduced import on_reduced, read_level, reduced_coefficients
from scoutview.views.render import ViewBatch, needed_frequencies, render_views
from scoutview.views.rescale import image_coefficients, network_input, rescale

__all__ = [
    "ReferenceEnergies",
    "ViewBatch",
    "ViewParameters",
    "ViewSettings",
    "draw_parameters",
    "draw_scale",
    "image_coefficients",
    "largest_scale",
    "needed_frequencies",
    "network_input",
    "on_reduced",
    "read_level",
    "reduced_coefficients",
    "render_views",
    "rescale",
]
