"""`scoutview ingest`: files and folders into a store."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from scoutview.commands.terminal import cells, printable
from scoutview.errors import RunError
from scoutview.ingest import IngestSummary, Rules, fix_of, run_ingest


def ingest(
    sources: list[Path | str],
    *,
    out: Path,
    labels: Path | None = None,
    layout: str | None = None,
    label_columns: list[str] | None = None,
    patient_column: str | None = None,
    modality: Literal["xray", "ct", "mr", "us"] | None = None,
    exclude: list[str] | None = None,
    gaps: Literal["refuse", "allow"] = "refuse",
    air: Literal["required", "optional"] = "required",
    ultrasound_text: Literal["mask", "refuse"] = "mask",
    workers: int = 0,
    cluster: str | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> IngestSummary:
    """Take DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF and npz files into a store.

    The slices of a series become volumes, by their geometry; other files are images by themselves. What cannot be
    taken right is not taken: it is listed with its reason in the store's quarantine. Running the same command again
    continues an interrupted ingest and adds new files only.

    Args:
        sources: Files and folders, searched through all their levels; tar and zip archives; a DICOMDIR; s3://.
        out: Folder of the store; made when it does not exist.
        labels: CSV file with a column file or id and a column per label, or another file that the command label
            takes, or the folder of a public data set.
        layout: Name of the public data set whose label files lie in the folder of labels, else in the source.
        label_columns: Columns of the CSV file to take as labels, instead of all that look like labels.
        patient_column: Column of the CSV file that says which images are of one patient.
        modality: What the files show that do not say so themselves, which is all but DICOM.
        exclude: Stores, such as a test set, whose images and patients must not come in, and CSV files with a column
            pixel_sha256, as atlas writes them, whose images must not.
        gaps: Volumes with missing or unevenly spaced slices: refuse them, or allow and flag them.
        air: Whether CT must hold air, which shows that its calibration is right.
        ultrasound_text: Outside its declared regions an ultrasound image is blackened; an image that declares none
            is kept as it is, or refused.
        workers: Number of processes that read files, 0 for one per core.
        cluster: Address of a dask scheduler whose workers read the files, such as tcp://host:8786, or "local".
        dry_run: Read and judge every file, say what would be taken, and write nothing.
        json: End with one line of JSON for programs.

    Returns:
        Counts over all files of the sources.

    Raises:
        UsageError: Wrong sources, labels or store.
        RunError: Nothing could be taken, or the store could not be written.
    """
    with _Progress() as progress:
        summary = run_ingest(
            sources,
            out,
            labels=labels,
            layout=layout,
            label_columns=label_columns,
            patient_column=patient_column,
            modality=modality,
            rules=Rules(gaps=gaps, ultrasound_text=ultrasound_text, air=air),
            exclude=[Path(store) for store in exclude or []],
            workers=workers,
            cluster=cluster,
            indexing=progress.show_headers,
            progress=progress.show,
            dry_run=dry_run,
        )
    _print(summary, out)
    if dry_run:
        print("dry run: nothing was written")
    if json:
        print(dumps(summary.counts()), flush=True)
    if summary.taken == 0 and not dry_run:
        counted = ", ".join(f"{count} {reason}" for reason, count in summary.reasons.items())
        most = max(summary.reasons, key=lambda reason: summary.reasons[reason])
        raise RunError(f"nothing could be taken from {summary.files} files ({counted}): {most}: {fix_of(most)}")
    return summary


class _Progress:
    """A bar on a terminal's stderr; elsewhere a line for every tenth of the files."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=self.console, transient=True)
        self.headers = self.bar.add_task("headers", total=None)
        self.task = self.bar.add_task("reading", total=None)
        self.tenth = 0

    def __enter__(self) -> _Progress:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.bar.stop()

    def show_headers(self, done: int, total: int) -> None:
        if self.console.is_terminal:
            self.bar.update(self.headers, completed=done, total=total)
        elif done == total:
            print(f"{total} headers read", file=sys.stderr, flush=True)

    def show(self, done: int, total: int) -> None:
        if self.console.is_terminal:
            self.bar.update(self.task, completed=done, total=total)
        elif done * 10 // total > self.tenth:
            self.tenth = done * 10 // total
            print(f"{done} of {total} files", file=sys.stderr, flush=True)


def _print(summary: IngestSummary, out: Path) -> None:
    console = Console()
    lines = [
        ("files", summary.files, ""),
        ("taken", summary.taken, f"{summary.images} images in {out}"),
        *([("volumes", summary.volumes, "of three or more slices")] if summary.volumes else []),
        *([("constant slices", summary.constant, "left out: all pixels have one value")] if summary.constant else []),
        ("quarantined", summary.quarantined, f"{out / 'quarantine.parquet'}" if summary.quarantined else ""),
        *[(f"  {reason}", count, fix_of(reason)) for reason, count in summary.reasons.items()],
    ]
    if console.is_terminal:
        table = Table(show_header=False, box=None)
        for name, count, text in lines:
            table.add_row(*cells(name, count, text))
        console.print(table)
    else:
        for name, count, text in lines:
            print(printable(f"{name}: {count}{'  ' + text if text else ''}"))
    for note in summary.notes:
        print(printable(f"note: {note}"))
