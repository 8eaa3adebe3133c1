"""Augmented views of an image (spec section 4): parameters are drawn first, then applied batched on the device.

In: unit-range images as DCT coefficients, their spectra, keyed parameters. Out: crops [view, image, 1, row, column].
"""

from scoutview.views.parameters import ReferenceEnergies, ViewParameters, ViewSettings, draw_parameters, largest_scale
from scoutview.views.render import ViewBatch, needed_frequencies, render_views
from scoutview.views.rescale import image_coefficients, network_input, rescale

__all__ = [
    "ReferenceEnergies",
    "ViewBatch",
    "ViewParameters",
    "ViewSettings",
    "draw_parameters",
    "image_coefficients",
    "largest_scale",
    "needed_frequencies",
    "network_input",
    "render_views",
    "rescale",
]
