"""A file -> the records that go into a shard: what a worker process does for the driver."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from scoutview.errors import RunError
from scoutview.images import Image, Modality, encode_spectrum, radial_spectrum
from scoutview.ingest.content import content_of
from scoutview.ingest.files import SourceFile, check_place, stamp_of
from scoutview.ingest.outcomes import Outcome
from scoutview.ingest.pseudonyms import Pseudonyms, stem_of
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import Rules
from scoutview.ingest.series import Job
from scoutview.ingest.spool import Spool
from scoutview.ingest.volumes import completed
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import Record, make_record
from scoutview.store.shards import Keys

TRAIN, VALIDATION = 0.7, 0.1
"""Fractions of the patients; the rest is for testing."""


@dataclass(frozen=True)
class ReadJobs:
    """Reads files one after the other; a refused one does not stop the others. scratch: where large ones wait."""

    modality: Modality | None
    pseudonyms: Pseudonyms
    rules: Rules
    scratch: Path

    def __call__(self, jobs: list[Job]) -> list[Outcome]:
        """One outcome for each job, in their order."""
        spool = Spool(self.scratch)
        return [self._read(job, spool) for job in jobs]

    def _read(self, job: Job, spool: Spool) -> Outcome:
        outcome = _read_outcome(job, self.modality, self.pseudonyms, self.rules, spool)
        spool.end_file(keep=not outcome.reason)
        return outcome


def split_for(patient_key: str) -> str:
    """train, validation or test (70 / 10 / 20 %): a function of the patient's key alone."""
    place = int(hashlib.sha256(patient_key.encode()).hexdigest()[:8], 16) / 2**32
    return "train" if place < TRAIN else "validation" if place < TRAIN + VALIDATION else "test"


def _read_outcome(job: Job, modality: Modality | None, pseudonyms: Pseudonyms, rules: Rules, spool: Spool) -> Outcome:
    file = job.file
    stamp = stamp_of(file)  # before the content: a change while it is read makes the file a changed one
    try:
        check_place(file)
        with content_of(file) as path:
            reading = read_source_file(file, path, modality, rules, job.place)
            constant = 0
            records = []
            for index, image in reading.images:
                if image.pixels.min() == image.pixels.max():
                    constant += 1
                else:
                    record = _record(_flagged(image, job.flags), index, file, stamp, pseudonyms)
                    records.append(spool.hold(record))
        if not records:
            raise RefusedError("constant", "every image has one value")
    except RefusedError as error:
        return Outcome(file, stamp, reason=error.reason, detail=error.detail)
    except MemoryError:
        return Outcome(file, stamp, reason="killed_the_reader", detail="not enough memory")
    except OSError:
        return Outcome(file, stamp, reason="unreadable", detail="the file cannot be read")
    except RunError:  # nothing is wrong with the file
        raise
    except Exception as error:  # one file of millions must not end the ingest; the type says where to look
        return Outcome(file, stamp, reason="decode_error", detail=f"{type(error).__name__} while reading")
    return Outcome(file, stamp, tuple(records if job.place else completed(records)), constant=constant)


def _flagged(image: Image, flags: tuple[str, ...]) -> Image:
    return replace(image, flags=tuple(sorted({*image.flags, *flags}))) if flags else image


def _record(image: Image, index: str, file: SourceFile, stamp: str, pseudonyms: Pseudonyms) -> Record:
    preprocessing = Preprocessing()
    spectrum = radial_spectrum(preprocess(image.pixels, calibration_of(image), preprocessing))
    return make_record(
        image, keys_of(image, index, file, stamp, pseudonyms), encode_spectrum(spectrum), preprocessing.identity()
    )


def keys_of(image: Image, index: str, file: SourceFile, stamp: str, pseudonyms: Pseudonyms) -> Keys:
    """What an image of a file is called in every store that is made under the same secret."""
    """The slices of a file share their path and name key; the images of an npz file have each their own."""
    relative = file.relative.as_posix()
    place = f"{relative}#{index}" if index else relative
    within = f"#{index}" if image.source_format == "npz" else ""
    instance = pseudonyms.key("instance", image.instance)
    identity = (f"{instance}#{index}" if index else instance) if instance else pseudonyms.key("path", place)
    # Slices of a volume are one patient; without any identifier an image is a patient of its own.
    unknown = f"file\0{relative if image.series else place}"
    patient = pseudonyms.key("patient", image.patient or unknown)
    return Keys(
        image=hashlib.sha256(f"{identity} {image.sha256}".encode()).hexdigest()[:32],
        patient=patient,
        study=pseudonyms.key("study", image.study),
        series=pseudonyms.key("series", image.series),
        file=pseudonyms.key("file", file.name),
        path=pseudonyms.key("path", relative + within),
        name=pseudonyms.key("name", stem_of(file.relative.name) + within),
        instance=instance,
        stamp=pseudonyms.key("stamp", stamp),
        split=split_for(patient),
        stack=pseudonyms.key("stack", image.stack),
    )
