"""Any file -> its images, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scoutview.images import Image, Modality
from scoutview.ingest.arrays import read_npz
from scoutview.ingest.dicom import read_dicom
from scoutview.ingest.files import SourceFile, sniff
from scoutview.ingest.nifti import read_nifti
from scoutview.ingest.pictures import read_picture
from scoutview.ingest.refusals import RefusedError


@dataclass(frozen=True)
class Reading:
    """What a file holds. images: (index within the file, image); the index is "" where there is only one.

    constant: slices or images of one value that were left out.
    """

    images: list[tuple[str, Image]]
    constant: int = 0


def read_file(path: Path, modality: Modality | None = None) -> list[Image]:
    """The images of one file, as ingest takes them.

    Args:
        path: DICOM, NIfTI, PNG, JPEG, TIFF or npz; its content decides which.
        modality: What the file shows where it does not say so itself (all but DICOM).

    Raises:
        RefusedError: if the file is not taken, with its reason code.
    """
    file = SourceFile(path, Path(path.name.lstrip(".")))
    return [image for _, image in read_source_file(file, modality).images]


def read_source_file(file: SourceFile, modality: Modality | None) -> Reading:
    """As `read_file`, with the place of each image in the file.

    Raises:
        RefusedError: if the file is not taken.
    """
    kind = sniff(file)
    if kind == "dicom":
        return Reading([("", image) for image in read_dicom(file.path)])
    if modality is None:
        raise RefusedError("unknown_modality", f"a {kind} file does not say its modality")
    if kind == "picture":
        return Reading([("", read_picture(file.path, modality))])
    if kind == "npz":
        images, constant = read_npz(file.path, modality)
        return Reading(images, constant)
    slices, constant = read_nifti(file.path, modality, file.relative.as_posix())
    return Reading([(str(image.slice_index), image) for image in slices], constant)
