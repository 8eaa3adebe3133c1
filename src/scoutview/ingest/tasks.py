"""The two passes of an ingest as tasks for workers: headers, then pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scoutview.ingest.files import SourceFile, stamp_of
from scoutview.ingest.outcomes import Outcome
from scoutview.ingest.pool import Spread
from scoutview.ingest.records import ReadJobs
from scoutview.ingest.series import IndexEntry, Job, Unit, index_files

CHUNK = 8
"""Files per task: enough to hide the cost of a task, few enough to lose little with a worker."""
INDEX_CHUNK = 64
"""Headers per task; a header is some fifty times cheaper than an image."""


def index(files: Sequence[SourceFile], spread: Spread) -> Iterator[IndexEntry]:
    """What the headers say of each file, in the order of `files`."""
    yield from spread(files, index_files, IndexEntry, INDEX_CHUNK)


def outcomes(units: Sequence[Unit], read: ReadJobs, spread: Spread) -> Iterator[tuple[Unit, list[Outcome]]]:
    """Each unit with the outcomes of its files, in the order of `units`, which does not depend on the workers.

    A file that kills its worker, also when it is read by itself, is refused as killed_the_reader. The files of a unit
    that was refused are not read.
    """
    jobs = [job for unit in units if not unit.reason for job in unit.jobs]
    stream = spread(jobs, read, _killed, CHUNK)
    for unit in units:
        if unit.reason:
            yield unit, [Outcome(job.file, stamp_of(job.file)) for job in unit.jobs]
        else:
            yield unit, [next(stream) for _ in unit.jobs]


def _killed(job: Job) -> Outcome:
    return Outcome(job.file, stamp_of(job.file), reason="killed_the_reader", detail="the process that read it died")
