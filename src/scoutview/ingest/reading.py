"""Any file -> its images, or the reason why not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scoutview.images import Image, Modality
from scoutview.ingest.arrays import read_npz
from scoutview.ingest.dicom import read_dicom
from scoutview.ingest.files import SourceFile, check_place, sniff
from scoutview.ingest.metaimage import read_metaimage
from scoutview.ingest.nifti import read_nifti
from scoutview.ingest.nrrd import read_nrrd
from scoutview.ingest.pictures import read_picture
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import STRICT, Rules
from scoutview.ingest.series import Place


@dataclass(frozen=True)
class Reading:
    """What a file holds. images: (index within the file, image); the index is "" where there is only one.

    The images may come one after the other, and end in a RefusedError that holds for all of them.
    Images of one value may be among them.
    """

    images: Iterable[tuple[str, Image]]


def read_file(path: Path, modality: Modality | None = None, rules: Rules = STRICT) -> list[Image]:
    """The images of one file, as ingest takes them.

    Args:
        path: DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF or npz; its content decides which.
        modality: What the file shows where it does not say so itself (all but DICOM).
        rules: What is allowed beyond the strict rules.

    Raises:
        RefusedError: if the file is not taken, with its reason code.
    """
    file = SourceFile(path, Path(path.name.lstrip(".")))
    check_place(file)
    images = [image for _, image in read_source_file(file, path, modality, rules).images]
    varying = [image for image in images if image.pixels.min() < image.pixels.max()]
    if not varying:
        raise RefusedError("constant", "every image has one value")
    return varying


def read_source_file(
    file: SourceFile, content: Path, modality: Modality | None, rules: Rules, place: Place | None = None
) -> Reading:
    """As `read_file`, with the index of each image in the file.

    content: a path that holds its bytes, see `scoutview.ingest.content`. place: where the slice of the file lies in a
    volume of several files.

    Raises:
        RefusedError: if the file is not taken.
    """
    kind, name = sniff(content), file.relative.as_posix()
    if kind == "dicom":
        return Reading(read_dicom(content, rules, place))
    if modality is None:
        raise RefusedError("unknown_modality", f"a {kind} file does not say its modality")
    if kind == "picture":
        return Reading(read_picture(content, modality, name))
    if kind == "npz":
        return Reading(read_npz(content, modality))
    read = {"nifti": read_nifti, "metaimage": read_metaimage, "nrrd": read_nrrd}[kind]
    return Reading(read(content, modality, name, rules))
