"""What several commands accept: an encoder by run, file or `none`; images from a store or from files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive, LabelledVolumes, read_unit_image
from scoutview.commands.terminal import printable
from scoutview.encoders import Encoder, open_encoder, untrained_encoder
from scoutview.errors import UsageError
from scoutview.images import Modality
from scoutview.ingest import Pseudonyms, RefusedError, read_file
from scoutview.objects import is_url
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.pretraining import load_recipe, resolve_input_size
from scoutview.progress import counted
from scoutview.tasks.inputs import volume_reader


@dataclass(frozen=True)
class SourceImage:
    """A unit-range image [row, column], or volume [slice, row, column], with what identifies it."""

    image: str
    modality: str
    patient: str
    pixels: npt.NDArray[np.float32]


def find_encoder(encoder: str, recipe: str = "small_cpu") -> Encoder:
    """The encoder of a run folder or file, or of published weights; `none` is the untrained network of a recipe."""
    if encoder != "none":
        return open_encoder(encoder)
    settings = load_recipe(recipe, {})
    return untrained_encoder(settings.encoder, resolve_input_size(settings)[0], Preprocessing(), settings.seed)


def source_images(source: Path, preprocessing: Preprocessing, modality: Modality | None) -> Iterator[SourceImage]:
    """Every image of a store, or of a file or folder of files; refused files are passed over by the caller's count.

    Raises:
        UsageError: if there is nothing there.
    """
    if is_store(source):
        archive = Archive.open([source])
        for index in counted(range(len(archive.rows)), "images"):
            row = archive.rows[index]
            yield SourceImage(row.image, row.modality, row.patient, read_unit_image(archive, index, preprocessing)[0])
        return
    if not source.exists():
        raise UsageError(f"{source} does not exist: give a store, a file or a folder of files")
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    pseudonyms = Pseudonyms.from_environment()
    refused: list[str] = []
    taken = 0
    for path in counted(files, "files"):
        try:
            images = read_file(path, modality)
        except RefusedError as error:
            refused.append(f"{path}: {error}")
            continue
        for number, image in enumerate(images):
            taken += 1
            pixels = preprocess(image.pixels, calibration_of(image), preprocessing)
            name = path.name if len(images) == 1 else f"{path.name}#{number}"
            yield SourceImage(name, image.modality, pseudonyms.key("patient", image.patient), pixels)
    for line in refused[:5]:
        print(printable(f"not taken: {line}"))
    if len(refused) > 5:
        print(f"not taken: {len(refused) - 5} more files")
    if not taken:
        raise UsageError(f"{source} holds no image that can be read ({len(refused)} files refused, as said above)")


def source_volumes(source: Path, encoder: Encoder) -> Iterator[SourceImage]:
    """Every volume of a store as an encoder of volumes is shown it, before it is brought to the input size.

    Raises:
        UsageError: if it is no store, or one without volumes.
    """
    if not is_store(source):
        raise UsageError(
            f"{source} is no store, and {encoder.architecture} reads volumes: make a store with scoutview ingest"
        )
    volumes = LabelledVolumes.of(Archive.open([source]))
    reader = volume_reader(encoder, volumes)
    for index in counted(range(len(volumes)), "volumes"):
        row = volumes.volumes.place(index)[1].rows[0]
        yield SourceImage(row.image, row.modality, row.patient, reader.whole(index).pixels)


def is_store(source: Path) -> bool:
    """Whether a source is a store, and no file or folder of files."""
    return is_url(str(source)) or (source / "store.json").exists()
