"""Augmented views of an image (spec section 4): parameters are drawn first, then applied batched on the device.

In: canvases of unit-range images or volumes, their spectra, keyed parameters. Out: crops [view, image, 1, row, column],
of volumes [view, volume, 1, slice, row, column].
"""

from scoutview.views.canvas import Canvas, canvas_of, layout
from scoutview.views.depth import VolumeDepth
from scoutview.views.network_input import network_input, network_slices
from scoutview.views.parameters import (
    DepthParameters,
    ReferenceEnergies,
    ViewParameters,
    ViewSettings,
    ViewSize,
    draw_parameters,
    draw_scale,
    draw_volume_parameters,
    largest_scale,
)
from scoutview.views.photo import PhotoParameters, augment_photo, draw_photo
from scoutview.views.reduced import on_reduced, read_level
from scoutview.views.render import ViewBatch, VolumeBatch, render_views
from scoutview.views.rescale import image_coefficients, rescale

__all__ = [
    "Canvas",
    "DepthParameters",
    "PhotoParameters",
    "ReferenceEnergies",
    "ViewBatch",
    "ViewParameters",
    "ViewSettings",
    "ViewSize",
    "VolumeBatch",
    "VolumeDepth",
    "augment_photo",
    "canvas_of",
    "draw_parameters",
    "draw_photo",
    "draw_scale",
    "draw_volume_parameters",
    "image_coefficients",
    "largest_scale",
    "layout",
    "network_input",
    "network_slices",
    "on_reduced",
    "read_level",
    "render_views",
    "rescale",
]
