"""The driver of an ingest: which files are new, what belongs together, outcomes in order, commits, the count.

A file is committed whole or not at all, and is known again by its key and stamp (size and time of change):
whatever a kill interrupts is read again by the next run, and nothing is taken twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from scoutview.errors import UsageError
from scoutview.images import Modality
from scoutview.ingest.archives import unpacked
from scoutview.ingest.cluster import on_cluster
from scoutview.ingest.discovery import discover
from scoutview.ingest.exclusion import Exclusion
from scoutview.ingest.files import SourceFile
from scoutview.ingest.joining import patient_for
from scoutview.ingest.label_files import open_labels
from scoutview.ingest.ledger import IngestSummary, Ledger
from scoutview.ingest.outcomes import Outcome
from scoutview.ingest.pool import Spread, on_this_machine
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.records import ReadJobs, split_for
from scoutview.ingest.references import references_of
from scoutview.ingest.rules import STRICT, Rules
from scoutview.ingest.series import IndexEntry, Unit, units_of
from scoutview.ingest.spool import remove_spooled
from scoutview.ingest.tasks import index, outcomes
from scoutview.ingest.volumes import judged, refused
from scoutview.store import Record, Store, StoreWriter, add_annotations, single
from scoutview.store.writing import SCRATCH, refuse_other_folder, remove_quarantined

COMMIT_BYTES = 64 * 2**20
COMMIT_FILES = 2000
"""What a kill can cost at most. Not a time: the same files give the same shards on every machine."""

_NEVER = 2**62
"""Shards are closed by `commit` only, between files."""

Progress = Callable[[int, int], None]


def run_ingest(
    sources: Sequence[Path | str],
    out: Path,
    *,
    labels: Path | None = None,
    layout: str | None = None,
    label_columns: list[str] | None = None,
    patient_column: str | None = None,
    modality: Modality | None = None,
    rules: Rules = STRICT,
    exclude: Sequence[Path] = (),
    workers: int = 0,
    cluster: str | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
    indexing: Progress | None = None,
    dry_run: bool = False,
) -> IngestSummary:
    """Take the files of `sources` into the store `out`; see `scoutview.commands.ingest`.

    cluster: address of a dask scheduler, or "local", instead of processes of this machine.
    dry_run: read and judge everything, and leave nothing behind; images are dropped as they come.
    indexing, progress: called with (files done, files to read) after each header, and after each file.

    Raises:
        UsageError: wrong sources, labels, store or secret.
        RunError: the store cannot be written, or no worker process can start.
    """
    if workers < 0:
        raise UsageError(f"workers is {workers}: give a number of processes, or 0 for all cores")
    if layout and not labels and len(sources) == 1:
        labels = Path(sources[0])
    elif layout and not labels:
        raise UsageError(f"the layout {layout!r} was given with {len(sources)} sources: add --labels with its folder")
    listed = discover(sources, excluded=out)
    table = open_labels(labels, layout, label_columns, patient_column) if labels else None
    if table is None and (label_columns or patient_column):
        raise UsageError("label columns or a patient column were given without a labels file: add --labels FILE.csv")
    pseudonyms = pseudonyms or (Pseudonyms.for_rehearsal() if dry_run else Pseudonyms.from_environment())
    named = out
    with (
        _rehearsal(out) if dry_run else nullcontext(out) as out,
        StoreWriter(out, pseudonyms.salt_id(), shard_bytes=_NEVER, keeps=not dry_run) as writer,
        unpacked(listed, out / SCRATCH / "unpacked") as files,
    ):
        keys = {pseudonyms.key("file", file.name): file for file in files}
        patients = table.patients(files, pseudonyms) if table else {}
        ledger = Ledger.of(Store.open(out), keys, modality, pseudonyms)
        _check_patients(Store.open(out), patients, named)
        exclusion = Exclusion.of(exclude, pseudonyms.salt_id())
        _check_exclusion(Store.open(out), exclusion, named)
        pending = [file for key, file in keys.items() if not ledger.is_settled(key)]
        settler = _Settler(ledger, writer, patients, pseudonyms, rules, exclusion)
        read = ReadJobs(modality, pseudonyms, rules, (out / SCRATCH).resolve())
        with _workers(cluster, workers, [out.resolve(), *_folders(pending)]) as spread:
            entries = _counted(index(pending, spread), len(pending), indexing)
            _take(outcomes(units_of(entries, rules), read, spread), settler, len(pending), progress)
        notes = list(table.notes) if table else []
        if dry_run:
            return ledger.summary(tuple(notes))
        remove_quarantined(out, ledger.no_longer_quarantined())
        store = Store.open(out)
        if table:
            rows = [row for row in store.rows() if row.file_key in keys]  # the label file is about these sources
            annotations, joined = table.annotations(rows, pseudonyms, "")
            add_annotations(store, annotations)
            notes += joined
        references = references_of(store)
        if references != store.reference_energies:
            writer.set_reference_energies(references)
    return ledger.summary(tuple(notes))


@contextmanager
def _rehearsal(out: Path) -> Iterator[Path]:
    """A folder that knows what a store holds, and is gone afterwards: the catalog, and none of the shards."""
    refuse_other_folder(out)
    with TemporaryDirectory(prefix="scoutview-") as name:
        for part in ("store.json", "quarantine.parquet"):
            if (out / part).exists():
                shutil.copy(out / part, name)
        for part in ("catalog", "annotations"):
            if (out / part).is_dir():
                shutil.copytree(out / part, Path(name) / part)
        yield Path(name)


def _workers(cluster: str | None, workers: int, folders: Sequence[Path]) -> AbstractContextManager[Spread]:
    return on_this_machine(workers) if cluster is None else on_cluster(cluster, workers, folders)


def _folders(files: Sequence[SourceFile]) -> list[Path]:
    """What the workers of a cluster must see: the folders of a few files tell whether a disk is mounted there."""
    local = [file.path for file in files if not file.url]
    return list({path.parent: None for path in local[:: max(1, len(local) // 8)]})


def _take(
    units: Iterator[tuple[Unit, list[Outcome]]], settler: _Settler, total: int, progress: Progress | None
) -> None:
    """Settle every unit, and commit now and then."""
    bytes_waiting = files_waiting = done = 0
    for unit, results in units:
        bytes_waiting += settler.settle(unit, results)
        files_waiting += len(results)
        # Between units only: the slices of a volume lie one after the other in one shard.
        if bytes_waiting >= COMMIT_BYTES or files_waiting >= COMMIT_FILES:
            settler.writer.commit()
            bytes_waiting = files_waiting = 0
        for _ in results:
            done += 1
            if progress:
                progress(done, total)
    settler.writer.commit()


def _counted(entries: Iterator[IndexEntry], total: int, indexing: Progress | None) -> Iterator[IndexEntry]:
    for number, entry in enumerate(entries, start=1):
        if indexing:
            indexing(number, total)
        yield entry


@dataclass(frozen=True)
class _Settler:
    """Decides about units once they were read."""

    ledger: Ledger
    writer: StoreWriter
    patients: dict[str, str]
    pseudonyms: Pseudonyms
    rules: Rules
    exclusion: Exclusion

    def settle(self, unit: Unit, results: Sequence[Outcome]) -> int:
        """Take the files of a unit or quarantine them; returns the bytes that were added."""
        held = [record for result in results for record in result.records]
        try:
            return self._settle(unit, results)
        finally:
            remove_spooled(held)

    def _settle(self, unit: Unit, results: Sequence[Outcome]) -> int:
        if unit.reason:
            judgements = [replace(result, reason=unit.reason, detail=unit.detail) for result in results]
        else:
            judgements = [self._judge(result) for result in results]
            why = self.exclusion.objection([record for judgement in judgements for record in judgement.records])
            if why:  # of a volume all slices
                judgements = [refused(judgement, "excluded", why) for judgement in judgements]
            elif len(unit.jobs) > 1:
                judgements = judged(judgements, self.rules)
        return self._add([self._noted(judgement) for judgement in judgements])

    def _key(self, outcome: Outcome) -> str:
        return self.pseudonyms.key("file", outcome.file.name)

    def _judge(self, outcome: Outcome) -> Outcome:
        """The outcome with the patient of the label file, and the ledger's objection."""
        outcome = replace(outcome, records=tuple(_with_patient(record, self.patients) for record in outcome.records))
        if outcome.reason:
            return outcome
        reason, detail = self.ledger.objection(self._key(outcome), [record.row for record in outcome.records])
        return replace(outcome, reason=reason, detail=detail) if reason else outcome

    def _noted(self, outcome: Outcome) -> Outcome:
        """Quarantine what was refused."""
        self.ledger.constant += outcome.constant
        if outcome.reason:
            key = self._key(outcome)
            self.ledger.refuse(key, outcome.reason)
            stamp = self.pseudonyms.key("stamp", outcome.stamp)
            self.writer.quarantine(outcome.file.name, outcome.reason, outcome.detail, key, stamp)
        return outcome

    def _add(self, results: Sequence[Outcome]) -> int:
        taken = [result for result in results if not result.reason]
        records = [record for result in taken for record in result.records]
        added = [record for record in records if not self.ledger.holds(record.row.image)]
        if len(added) < len(records):  # the rest of its volume lies in another shard
            added = [replace(record, row=single(record.row)) for record in added]
        for record in added:
            self.writer.add(record)
        stored = {record.row.image: record.row for record in added}
        for result in taken:
            rows = [stored.get(record.row.image, record.row) for record in result.records]
            self.ledger.accept(self._key(result), rows)
        return sum(record.row.nbytes for record in added)


def _with_patient(record: Record, patients: dict[str, str]) -> Record:
    """The record with the patient that the label file gives, which decides its split too."""
    patient = patient_for(record.row, patients)
    if patient is None:
        return record
    return replace(record, row=replace(record.row, patient=patient, split=split_for(patient)))


def _check_patients(store: Store, patients: dict[str, str], out: Path) -> None:
    """Patients are fixed when an image is taken: its split was made from them."""
    if not patients:
        return
    other = sum(patient_for(row, patients) not in (None, row.patient) for row in store.rows())
    if other:
        raise UsageError(
            f"{out} holds {other} images under other patients than the label file gives: patients are fixed when an "
            "image is taken; ingest into a new store with the label file"
        )


def _check_exclusion(store: Store, exclusion: Exclusion, out: Path) -> None:
    """What was taken stays: shards are immutable, and runs may have been trained on them."""
    held = exclusion.held_by(store.rows())
    if held:
        raise UsageError(
            f"{out} already holds {held} images that are to be excluded: images cannot be taken out of a store; "
            "ingest into a new one with --exclude"
        )
