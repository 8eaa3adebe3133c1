"""NIfTI volumes -> slices in the radiological display: as a radiologist sees them, and as DICOM lies.

Axial slices have anterior on top, coronal and sagittal ones superior on top; the patient's right (in sagittal
slices anterior) is on the left.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from scoutview.images import Image, Modality
from scoutview.images.types import to_int16
from scoutview.ingest.calibration import TISSUE, not_hounsfield
from scoutview.ingest.limits import check_size
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules
from scoutview.ingest.stacks import FEWEST_SLICES

THICK = 1.5
"""Slices lie across the axis whose spacing is this many times the next one's; otherwise they are axial."""
FEWEST_VALUES = 20
"""A volume with fewer distinct values is a label map."""


def read_nifti(path: Path, modality: Modality, name: str, rules: Rules) -> tuple[list[Image], int]:
    """(slices along the acquired axis, number of constant slices left out) of a 2D or 3D NIfTI file.

    name: what stands for the file as a series. The stored integers are kept with scl_slope and scl_inter as
    slope and offset; floats are quantised over the volume. CT is "HU" or refused.

    Raises:
        RefusedError: with the reason code.
    """
    volume = _load(path)
    values, slope, offset = _stored_values(volume)
    values, spacing, affine = _canonical(values, volume)
    axis = _slice_axis(values.shape, spacing)
    if _few_values(values):
        raise RefusedError("label_map", f"fewer than {FEWEST_VALUES} distinct values")
    units = _units(values, slope, offset, modality, rules)
    pixels, step, base, shifted = to_int16(values)
    slices = np.moveaxis(pixels, axis, 0)
    plane = [index for index in range(3) if index != axis]
    check_size(slices.shape[2], slices.shape[1])
    images = []
    for index in range(slices.shape[0]):
        # [first plane axis, second plane axis] in RAS becomes [row, column] seen from the radiologist's side.
        shown = np.ascontiguousarray(slices[index][::-1, ::-1].T)
        if shown.min() == shown.max():
            continue
        images.append(
            Image(
                pixels=shown,
                modality=modality,
                slope=slope * step,
                offset=slope * base + offset,
                units=units,
                shifted=shifted,
                spacing=(spacing[plane[1]], spacing[plane[0]]),
                series=name,
                stack=name if slices.shape[0] >= FEWEST_SLICES else "",
                slice_index=index,
                slice_position=index * spacing[axis],
                slice_spacing=spacing[axis],
                affine=_shown_affine(affine, axis, slices.shape[1:], index),
                source_format="nifti",
            )
        )
    if not images:
        raise RefusedError("constant", "every slice has one value")
    return images, slices.shape[0] - len(images)


def _load(path: Path) -> Any:
    """The image with its header checked; the content decides, not the suffix."""
    try:
        with path.open("rb") as stream:
            data = stream.read()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (EOFError, zlib.error) as error:
        raise RefusedError("truncated", "the compressed data end early") from error
    except OSError as error:
        raise RefusedError("unreadable", "the file cannot be read") from error
    kind = nib.Nifti2Image if data[4:8] in (b"n+2\0", b"ni2\0") else nib.Nifti1Image
    if b"ni1\0" in data[344:348] or b"ni2\0" in data[4:8]:
        raise RefusedError("unsupported_format", "a header whose pixels lie in another file: write one .nii file")
    try:
        volume = kind.from_stream(io.BytesIO(data))
        header = volume.header
        shape = tuple(int(size) for size in volume.shape)
        dtype = np.dtype(header.get_data_dtype())
        begin = int(volume.dataobj.offset)
        codes = int(header["qform_code"]), int(header["sform_code"])
    except Exception as error:  # nibabel raises many kinds of errors on malformed headers
        raise RefusedError("bad_header", f"the NIfTI header cannot be parsed ({type(error).__name__})") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if dtype.fields is not None:
        raise RefusedError("color", "RGB volumes")
    if dtype.kind not in "iuf":
        raise RefusedError("bits", f"values of type {dtype}")
    if len(shape) > 3:
        raise RefusedError("four_dimensional", f"{len(shape)} dimensions")
    if len(shape) < 2 or min(shape) < 1:
        raise RefusedError("bad_header", "dim holds fewer than two dimensions")
    if max(codes) == 0:
        raise RefusedError("no_orientation", "qform_code and sform_code are 0")
    if len(data) - begin < int(np.prod(shape)) * dtype.itemsize:
        raise RefusedError("truncated", "fewer voxels than the header says")
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine[:3, :3])) < 1e-12:
        raise RefusedError("bad_header", "the affine is singular")
    return volume


def _stored_values(volume: Any) -> tuple[npt.NDArray[Any], float, float]:
    values = np.asarray(volume.dataobj.get_unscaled())
    slope, offset = float(volume.dataobj.slope), float(volume.dataobj.inter)
    if slope == 0 or not np.isfinite((slope, offset)).all():
        slope, offset = 1.0, 0.0
    values = values.reshape((*values.shape, 1)[:3] if values.ndim < 3 else values.shape[:3])
    if slope < 0:
        values, slope = -values.astype(np.float64 if values.dtype.kind == "f" else np.int64), -slope
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise RefusedError("not_finite", "NaN or infinity")
    return values, slope, offset


def _canonical(
    values: npt.NDArray[Any], volume: Any
) -> tuple[npt.NDArray[Any], tuple[float, float, float], npt.NDArray[np.float64]]:
    """(values, spacing in mm, affine) with the axes to right, anterior, superior as near as flips and swaps can."""
    orientation = nib.io_orientation(volume.affine)
    if np.isnan(orientation).any():
        raise RefusedError("bad_header", "the affine does not give every axis a direction")
    zooms = np.sqrt((volume.affine[:3, :3] ** 2).sum(axis=0))
    spacing = [0.0, 0.0, 0.0]
    for source, target in enumerate(orientation[:, 0].astype(int)):
        spacing[target] = float(zooms[source])
    shape = values.shape
    turned = nib.apply_orientation(values, orientation)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, shape)
    return turned, (spacing[0], spacing[1], spacing[2]), affine


def _shown_affine(
    affine: npt.NDArray[np.float64], axis: int, plane_shape: tuple[int, ...], index: int
) -> tuple[float, ...]:
    """Row-major 3 x 4 matrix from (column, row, slices after this one, 1) to LPS in mm, see `Image.affine`.

    affine: from canonical indices to RAS; axis: the one across the slices; the shown column and row run against
    the canonical axes of the plane, whose lengths are plane_shape.
    """
    first, second = (other for other in range(3) if other != axis)
    to_index = np.zeros((4, 4))
    to_index[first] = (-1, 0, 0, plane_shape[0] - 1)
    to_index[second] = (0, -1, 0, plane_shape[1] - 1)
    to_index[axis] = (0, 0, 1, index)
    to_index[3, 3] = 1
    shown = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine @ to_index
    return tuple(float(value) for value in shown[:3].ravel())


def _slice_axis(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> int:
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    order = sorted(range(3), key=lambda axis: spacing[axis])
    return order[2] if spacing[order[2]] >= THICK * spacing[order[1]] else 2


def _few_values(values: npt.NDArray[Any]) -> bool:
    if np.unique(values.ravel()[:: max(1, values.size // 4096)]).size >= FEWEST_VALUES:
        return False
    return int(np.unique(values).size) < FEWEST_VALUES


def _units(values: npt.NDArray[Any], slope: float, offset: float, modality: Modality, rules: Rules) -> str:
    if modality != "ct":
        return ""
    lowest, highest = float(values.min()) * slope + offset, float(values.max()) * slope + offset
    why = not_hounsfield([lowest], [highest > TISSUE])
    if why and rules.air == "required":
        raise RefusedError("not_hu", why)
    sample = values.ravel()[:: max(1, values.size // 65536)].astype(np.float64) * slope + offset
    if np.abs(sample - np.rint(sample)).max() > 1e-3:
        raise RefusedError("not_hu", "values that are not whole Hounsfield units")
    return "HU"
