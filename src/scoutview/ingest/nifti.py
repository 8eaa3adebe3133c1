"""NIfTI files: which voxels they hold, and where those lie in the patient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np

from scoutview.images import Modality
from scoutview.ingest.inflating import GZIP, inflate, inflated_head
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules
from scoutview.ingest.volume_slices import Indexed, images_of
from scoutview.ingest.voxels import Voxels, check_affine, check_shape

_HEADER = 540
"""Bytes of the longer of the two headers."""
_TRAILING = 2**20
"""Bytes that may follow the voxels in a compressed file."""


def read_nifti(path: Path, modality: Modality, name: str, rules: Rules) -> Iterator[Indexed]:
    """The slices of a NIfTI file of two to four dimensions, see `images_of`.

    Raises:
        RefusedError: with the reason code.
    """
    voxels = open_nifti(path)
    with voxels.stream:
        yield from images_of(voxels, modality, name, rules, "nifti")


def open_nifti(path: Path) -> Voxels:
    """The voxels of a file, with its header checked; the content decides, not the suffix. The caller closes it.

    Raises:
        RefusedError: with the reason code.
    """
    try:
        stream: IO[bytes] = path.open("rb")
    except OSError as error:
        raise RefusedError("unreadable", "the file cannot be read") from error
    try:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        header = inflated_head(stream, GZIP, _HEADER) if packed else stream.read(_HEADER)
        voxels = _described(header, stream)
        end = voxels.begin + voxels.nbytes
        if packed:
            with stream:
                return _described(header, inflate(stream, GZIP, end, end + _TRAILING))
        if stream.seek(0, 2) < end:
            raise RefusedError("truncated", "fewer voxels than the header says")
    except OSError as error:
        stream.close()
        raise RefusedError("unreadable", "the file cannot be read or inflated") from error
    except BaseException:
        stream.close()
        raise
    return voxels


def _described(head: bytes, stream: IO[bytes]) -> Voxels:
    """What a header says of the voxels in `stream`."""
    second = head[4:8] in (b"n+2\0", b"ni2\0")
    if b"ni1\0" in head[344:348] or b"ni2\0" in head[4:8]:
        raise RefusedError("unsupported_format", "a header whose pixels lie in another file: write one .nii file")
    kind: Any = nib.Nifti2Header if second else nib.Nifti1Header
    try:
        header = kind(head[: kind.sizeof_hdr])
        sizes = tuple(int(size) for size in header.get_data_shape())
        dtype = np.dtype(header.get_data_dtype())
        begin = int(header.get_data_offset())
        slope, offset = header.get_slope_inter()
        codes = int(header["qform_code"]), int(header["sform_code"])
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except Exception as error:  # nibabel raises many kinds of errors on malformed headers
        raise RefusedError("bad_header", f"the NIfTI header cannot be parsed ({type(error).__name__})") from error
    if dtype.fields is not None:
        raise RefusedError("color", "RGB volumes")
    shape, count = check_shape(sizes, dtype)
    if max(codes) == 0:
        raise RefusedError("no_orientation", "qform_code and sform_code are 0")
    if begin < 0:
        raise RefusedError("bad_header", "vox_offset is negative")
    check_affine(affine)
    factor = 1.0 if slope is None else float(slope)
    return Voxels(stream, begin, shape, count, dtype, factor, float(offset or 0.0), affine)
