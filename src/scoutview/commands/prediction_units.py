"""What a prediction is made for and logged as a whole: a file, or an image or volume of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoutview.batches import Archive, LabelledVolumes, read_unit_image
from scoutview.commands.sources import is_store
from scoutview.errors import UsageError
from scoutview.images import Modality
from scoutview.ingest import Pseudonyms, RefusedError
from scoutview.ingest.discovery import discover
from scoutview.ingest.files import SourceFile, stamp_of
from scoutview.ingest.streaming import stream_images
from scoutview.preprocessing import NoBrainError, calibration_of, preprocess
from scoutview.store import DamagedRecordError
from scoutview.tasks.inputs import volume_reader
from scoutview.tasks.prediction import Predictor


@dataclass(frozen=True)
class SeenImage:
    """A unit-range image [row, column] or volume [slice, row, column], and its pseudonymous keys.

    index: of the frame or slice within its file, "" for the only one. dicom: whether it is from a DICOM file.
    """

    image: str
    modality: str
    patient: str
    study: str
    series: str
    index: str
    dicom: bool
    pixels: npt.NDArray[np.float32]


@dataclass(frozen=True)
class PredictionUnit:
    """name: which no other unit of the source has. source: path relative to the source, "" of a store.

    images: reads it; ends in a RefusedError that holds for all of its images.
    """

    name: str
    source: str
    image: str
    stamp: str
    images: Callable[[], Iterator[SeenImage]]
    file: SourceFile | None = None


def prediction_units(
    source: Path, predictor: Predictor, modality: Modality | None, pseudonyms: Pseudonyms, out: Path
) -> list[PredictionUnit]:
    """The units of a source, in their order; what lies in `out` is left out.

    Raises:
        UsageError: if there is nothing there, or no store for a model of volumes.
    """
    volumes = predictor.encoder.network.spatial_dims == 3
    if is_store(source):
        archive = Archive.open([source])
        return _volumes(archive, predictor) if volumes else _images(archive, predictor)
    if volumes:
        raise UsageError(f"{source} is no store, and the model reads volumes: make a store with scoutview ingest")
    return [
        PredictionUnit(
            name=file.relative.as_posix(),
            source=file.relative.as_posix(),
            image="",
            stamp=pseudonyms.key("stamp", stamp_of(file)),
            images=partial(_of_file, file, predictor, modality, pseudonyms),
            file=file,
        )
        for file in discover([source], out)
    ]


def _of_file(
    file: SourceFile, predictor: Predictor, modality: Modality | None, pseudonyms: Pseudonyms
) -> Iterator[SeenImage]:
    preprocessing = predictor.encoder.preprocessing
    for keys, index, image in stream_images(file, modality, pseudonyms):
        pixels = preprocess(image.pixels, calibration_of(image), preprocessing)
        dicom = image.source_format == "dicom"
        yield SeenImage(keys.image, image.modality, keys.patient, keys.study, keys.series, index, dicom, pixels)


def _images(archive: Archive, predictor: Predictor) -> list[PredictionUnit]:
    def read(index: int) -> Iterator[SeenImage]:
        row = archive.rows[index]
        try:
            pixels, _ = read_unit_image(archive, index, predictor.encoder.preprocessing)
        except DamagedRecordError as error:
            raise RefusedError("damaged_record", "scoutview fsck names what is damaged") from error
        yield SeenImage(row.image, row.modality, row.patient, row.study, row.series, "", False, pixels)

    names = (archive.rows[index].image for index in range(len(archive.rows)))
    return [PredictionUnit(name, "", name, "", partial(read, index)) for index, name in enumerate(names)]


def _volumes(archive: Archive, predictor: Predictor) -> list[PredictionUnit]:
    volumes = LabelledVolumes.of(archive)
    otherwise = "head" if predictor.task == "hemorrhage_volume" else "whole"
    reader = volume_reader(predictor.encoder, volumes, otherwise)  # type: ignore[arg-type]

    def read(index: int) -> Iterator[SeenImage]:
        row = volumes.volumes.place(index)[1].rows[0]
        try:
            pixels = reader.whole(index).pixels
        except DamagedRecordError as error:
            raise RefusedError("damaged_record", "scoutview fsck names what is damaged") from error
        except NoBrainError as error:
            raise RefusedError("no_brain", "no head CT in which a brain is found") from error
        yield SeenImage(row.image, row.modality, row.patient, row.study, row.series, "", False, pixels)

    names = (volumes.volumes.place(index)[1].rows[0].image for index in range(len(volumes)))
    return [PredictionUnit(name, "", name, "", partial(read, index)) for index, name in enumerate(names)]
