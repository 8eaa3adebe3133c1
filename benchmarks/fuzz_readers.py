"""What other readers make of a damaged file that scoutview took, for `benchmarks/fuzz.py`.

pydicom (and Pillow in it), nibabel, SimpleITK, libpng, libjpeg and libtiff in imagecodecs, NumPy.
Run: python benchmarks/fuzz_readers.py, which compares the files before they are damaged.
"""

from __future__ import annotations

import gzip
import io
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as Itk
from fuzz_sources import sources
from PIL import Image as Pillow
from PIL import ImageOps
from pydicom.encaps import get_frame
from pydicom.pixels import apply_modality_lut

from scoutview.images import Image
from scoutview.ingest import dicom_pixels
from scoutview.ingest.dicom_header import read_header
from scoutview.ingest.dicom_kind import format_of, modality_of
from scoutview.ingest.files import SourceFile, sniff
from scoutview.ingest.frames import open_frames
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.rules import STRICT

Indexed = Sequence[tuple[str, Image]]
SAME, OTHER, UNREAD, UNDECIDED = "same", "other", "unread", "undecided"


def judged(path: Path, images: Indexed) -> str:
    """Whether another reader finds the same values: SAME, OTHER, UNREAD (it reads nothing), UNDECIDED.

    UNDECIDED: two decoders disagree on a damaged codestream that has no checksum (JPEG, JPEG-LS, JPEG 2000).
    """
    kind = sniff(path)
    compare = {"dicom": _dicom, "nifti": _nifti, "metaimage": _itk, "nrrd": _itk, "picture": _picture, "npz": _npz}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return compare[kind](path, images)


def _physical(image: Image) -> npt.NDArray[np.float64]:
    return image.pixels * np.float64(image.slope) + image.offset


def _near(image: Image, expected: npt.NDArray[Any], extra: float = 0.0) -> bool:
    """Equal within the rounding of the stored integers."""
    if expected.shape != image.pixels.shape:
        return False
    allowed = abs(image.slope) * 0.501 + extra + 1e-6 * float(np.abs(expected).max())
    return bool(np.abs(_physical(image) - expected).max() <= allowed)


def _dicom(path: Path, images: Indexed) -> str:
    """Stored values of every frame taken; for MR and CT also the values after the modality LUT."""
    header = read_header(path)
    form = format_of(header, modality_of(header))
    try:
        dataset = pydicom.dcmread(path)
        expected = _frames(dataset, form)
        mosaic = "MOSAIC" in str(dataset.get("ImageType", ""))
        plain = _is_plain(dataset, form) and not mosaic
    except Exception:  # another reader raises whatever it likes
        return UNREAD
    source = open_frames(path, form.frames, form.frame_bytes)
    for index, image in images:
        number = int(index) if index and not mosaic else 0
        found = dicom_pixels.decode_dataset(source.dataset(number), form)
        wanted = expected[number]
        if form.samples == 3:
            wanted = np.rint(wanted @ np.array([0.299, 0.587, 0.114])) if wanted.ndim == 3 else wanted
        if found.shape != wanted.shape or np.abs(found - wanted.astype(np.int64)).max() > (form.samples == 3):
            damaged = form.syntax not in dicom_pixels.NATIVE and form.syntax != dicom_pixels.RLE
            return UNDECIDED if damaged and found.shape == wanted.shape else OTHER
        if plain and image.modality in ("ct", "mr"):
            try:
                physical = np.asarray(apply_modality_lut(wanted, dataset), np.float64)
            except Exception:
                return UNREAD
            if not _near(image, physical):
                return OTHER
    return SAME


def _frames(dataset: Any, form: Any) -> list[npt.NDArray[Any]]:
    """Stored values of each frame: pydicom's, or those of the only decoder there is, in the frame pydicom finds."""
    if form.syntax in dicom_pixels._DECODERS and not form.syntax.endswith((".90", ".91")):
        decode = dicom_pixels._DECODERS[form.syntax]
        frames = [get_frame(dataset.PixelData, number, number_of_frames=form.frames) for number in range(form.frames)]
        return [dicom_pixels._stored_bits(np.asarray(decode(frame)), form) for frame in frames]
    values = dataset.pixel_array
    if form.samples == 1 and (form.bits_stored < form.bits_allocated or form.high_bit != form.bits_stored - 1):
        raw = dataset.pixel_array if form.syntax in dicom_pixels.NATIVE else values
        unsigned = raw.astype(np.int64) & ((1 << form.bits_allocated) - 1)
        values = dicom_pixels._stored_bits(
            unsigned.reshape(-1, form.columns), form, form.high_bit + 1 - form.bits_stored
        )
        values = values.reshape(raw.shape)
    return list(values) if form.frames > 1 else [values]


def _is_plain(dataset: Any, form: Any) -> bool:
    """Whether an image of CT or MR is nothing but the modality LUT of the stored values."""
    extras = ("PixelPaddingValue", "PresentationLUTShape", "SharedFunctionalGroupsSequence")
    return form.photometric == "MONOCHROME2" and not any(keyword in dataset for keyword in extras)


def _values_at(images: Indexed, voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> str:
    """Pixels of a 4D or 3D volume [x, y, z(, t)], found where the affine (to LPS) of each image says."""
    inverse = np.linalg.inv(affine)
    for index, image in images:
        volume = voxels[..., int(index.partition("/")[0])] if "/" in index else voxels.reshape(voxels.shape[:3])
        rows, columns = np.indices(image.pixels.shape)
        grid = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)]).reshape(4, -1)
        assert image.affine is not None
        places = inverse @ np.vstack([np.reshape(image.affine, (3, 4)) @ grid, np.ones(grid.shape[1])])
        voxel = np.rint(places[:3]).astype(int)
        if (voxel < 0).any() or (voxel >= np.array(volume.shape)[:, None]).any():
            return OTHER
        if not _near(image, volume[tuple(voxel)].reshape(rows.shape).astype(np.float64)):
            return OTHER
    return SAME


def _nifti(path: Path, images: Indexed) -> str:
    data = path.read_bytes()
    try:
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        kind = nib.Nifti2Image if data[4:8] == b"n+2\0" else nib.Nifti1Image
        volume = kind.from_stream(io.BytesIO(data))
        values = volume.get_fdata()
    except Exception:
        return UNREAD
    values = values.reshape((*values.shape, 1, 1)[: max(3, values.ndim)])
    while values.ndim > 4:
        values = values[..., 0]
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    return _values_at(images, values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)


def _itk(path: Path, images: Indexed) -> str:
    named = path.with_suffix(".mha" if images[0][1].source_format == "metaimage" else ".nrrd")
    named.write_bytes(path.read_bytes())
    try:
        image = Itk.ReadImage(str(named))
        values = Itk.GetArrayFromImage(image).T
    except Exception:
        return UNREAD
    finally:
        named.unlink()
    size = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(image.GetDirection(), (size, size)) * np.array(image.GetSpacing()))[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return _values_at(images, values, affine)


def _picture(path: Path, images: Indexed) -> str:
    """Grey pictures to the level; of coloured ones the luma within one."""
    data = path.read_bytes()
    index = images[0][0]
    try:
        if data.startswith(b"\x89PNG"):
            wanted = [np.asarray(imagecodecs.png_decode(data))]
        elif data.startswith(b"\xff\xd8"):
            with Pillow.open(io.BytesIO(data)) as picture:
                turned = ImageOps.exif_transpose(picture).convert(picture.mode)
            wanted = [np.asarray(turned)]
        else:
            wanted = [np.asarray(imagecodecs.tiff_decode(data, index=int(number or 0))) for number, _ in images]
    except Exception:
        return UNREAD
    if index and len(wanted) != len(images):
        return OTHER
    for (_, image), values in zip(images, wanted, strict=True):
        grey = values
        if grey.ndim == 3:
            grey = grey[..., :-1] if grey.shape[2] in (2, 4) else grey
            grey = grey[..., 0] if grey.shape[2] == 1 else np.rint(grey @ np.array([0.299, 0.587, 0.114]))
        inverted = 65535 - grey.astype(np.int64) if grey.dtype.itemsize == 2 else 255 - grey.astype(np.float64)
        turned = [np.rot90(candidate, turns)[:, ::mirror] for candidate in (grey, inverted) for turns in range(4)
                  for mirror in (1, -1)]  # fmt: skip
        # Orientation and white-is-zero are tags that the other decoders leave to who calls them.
        choices = turned if data[:2] in (b"II", b"MM") or data.startswith(b"\x89PNG") else [grey]
        if not any(
            _near(image, candidate.astype(np.float64), 0.0 if values.ndim == 2 else 1.0) for candidate in choices
        ):
            return OTHER
    return SAME


def _npz(path: Path, images: Indexed) -> str:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:
        return UNREAD
    for index, image in images:
        part, _, number = index.rpartition("/")
        if not np.array_equal(_physical(image), arrays[f"{part}_images" if part else "images"][int(number)]):
            return OTHER
    return SAME


def main() -> None:
    """What the readers make of the files before they are damaged."""
    verdicts: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in sources():
            given = SourceFile(Path(folder) / "file", Path("file"))
            given.path.write_bytes(source.data)
            modality: Any = source.modality
            images = list(read_source_file(given, given.path, modality, STRICT).images)
            verdicts.setdefault(judged(given.path, images), []).append(source.name)
    for verdict, names in sorted(verdicts.items()):
        print(f"  {verdict}: {', '.join(names)}")
    print(f"whole files in which other readers find other values: {len(verdicts.get(OTHER, []))} (bar: 0)")


if __name__ == "__main__":
    main()
