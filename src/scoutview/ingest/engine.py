"""The driver of an ingest: which files are new, their outcomes in order, commits, and the count at the end.

A file is committed whole or not at all, and is known again by its key and stamp (size and time of change):
whatever a kill interrupts is read again by the next run, and nothing is taken twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.images import Modality
from scoutview.ingest.files import discover
from scoutview.ingest.joining import patient_for
from scoutview.ingest.label_files import open_labels
from scoutview.ingest.ledger import IngestSummary, Ledger
from scoutview.ingest.pool import outcomes
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.records import Outcome, split_for
from scoutview.ingest.references import references_of
from scoutview.store import Record, Store, StoreWriter, add_annotations
from scoutview.store.writing import remove_quarantined

COMMIT_BYTES = 64 * 2**20
COMMIT_FILES = 2000
"""What a kill can cost at most. Not a time: the same files give the same shards on every machine."""

_NEVER = 2**62
"""Shards are closed by `commit` only, between files."""

Progress = Callable[[int, int], None]


def run_ingest(
    sources: list[Path],
    out: Path,
    *,
    labels: Path | None = None,
    layout: str | None = None,
    label_columns: list[str] | None = None,
    patient_column: str | None = None,
    modality: Modality | None = None,
    workers: int = 0,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Take the files of `sources` into the store `out`; see `scoutview.commands.ingest`.

    progress: called with (files done, files to read) after each file.

    Raises:
        UsageError: wrong sources, labels, store or secret.
        RunError: the store cannot be written.
    """
    if workers < 0:
        raise UsageError(f"workers is {workers}: give a number of processes, or 0 for all cores")
    files = discover(sources, excluded=out)
    if layout and not labels and len(sources) == 1:
        labels = sources[0]
    elif layout and not labels:
        raise UsageError(f"the layout {layout!r} was given with {len(sources)} sources: add --labels with its folder")
    table = open_labels(labels, layout, label_columns, patient_column) if labels else None
    if table is None and (label_columns or patient_column):
        raise UsageError("label columns or a patient column were given without a labels file: add --labels FILE.csv")
    pseudonyms = pseudonyms or Pseudonyms.from_environment()
    keys = {pseudonyms.key("file", str(file.path)): file for file in files}
    patients = table.patients(files, pseudonyms) if table else {}
    with StoreWriter(out, pseudonyms.salt_id(), shard_bytes=_NEVER) as writer:
        ledger = Ledger.of(Store.open(out), keys, modality)
        _check_patients(Store.open(out), patients, out)
        pending = [file for key, file in keys.items() if not ledger.is_settled(key)]
        bytes_waiting = files_waiting = 0
        for number, outcome in enumerate(outcomes(pending, modality, pseudonyms, workers), start=1):
            bytes_waiting += _settle(outcome, ledger, writer, patients, pseudonyms)
            files_waiting += 1
            if bytes_waiting >= COMMIT_BYTES or files_waiting >= COMMIT_FILES:
                writer.commit()
                bytes_waiting = files_waiting = 0
            if progress:
                progress(number, len(pending))
        writer.commit()
        remove_quarantined(out, ledger.no_longer_quarantined())
        store = Store.open(out)
        notes = list(table.notes) if table else []
        if table:
            rows = [row for row in store.rows() if row.file_key in keys]  # the label file is about these sources
            annotations, joined = table.annotations(rows, pseudonyms, "")
            add_annotations(store, annotations)
            notes += joined
        references = references_of(store)
        if references != store.reference_energies:
            writer.set_reference_energies(references)
    return ledger.summary(tuple(notes))


def _settle(
    outcome: Outcome, ledger: Ledger, writer: StoreWriter, patients: dict[str, str], pseudonyms: Pseudonyms
) -> int:
    """Take a file or quarantine it; returns the bytes that were added."""
    key = pseudonyms.key("file", str(outcome.file.path))
    records = [_with_patient(record, patients) for record in outcome.records]
    reason, detail = outcome.reason, outcome.detail
    if not reason:
        reason, detail = ledger.objection(key, [record.row for record in records])
    ledger.constant += outcome.constant
    if reason:
        ledger.refuse(key, reason)
        writer.quarantine(str(outcome.file.path), reason, detail, key, outcome.stamp)
        return 0
    added = [record for record in records if not ledger.holds(record.row.image)]
    for record in added:
        writer.add(record)
    ledger.accept(key, [record.row for record in records])
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
