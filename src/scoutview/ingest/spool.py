"""Where the codestreams of large files wait: a worker's memory is bounded, whatever the file."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from scoutview.errors import RunError
from scoutview.store import Record
from scoutview.store.shards import Spooled

IN_MEMORY = 32 * 2**20
"""Bytes of codestreams that a task sends to the driver from memory; those after them wait in the store's folder."""


@dataclass
class Spool:
    """Holds the records of a task: the first 32 MB in memory, the others in `folder`, one file per source file."""

    folder: Path
    held: int = 0
    stream: BinaryIO | None = None

    def hold(self, record: Record) -> Record:
        """The record, with its codestream where it may wait.

        Raises:
            RunError: the folder cannot be written to.
        """
        data = record.data()
        self.held += len(data)
        if self.held <= IN_MEMORY:
            return record
        try:
            if self.stream is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.stream = (self.folder / f"{uuid.uuid4().hex}.spool").open("wb")
            begin = self.stream.tell()
            self.stream.write(data)
        except OSError as error:
            raise RunError(
                f"a worker cannot write to {self.folder} ({error.strerror}): free space there; on a cluster the store "
                "must lie in a folder that every worker can write to"
            ) from error
        return replace(record, codestream=Spooled(Path(self.stream.name), begin, len(data)))

    def end_file(self, keep: bool) -> None:
        """The records of a source file are complete; without `keep` they are not needed."""
        if self.stream is not None:
            self.stream.close()
            if not keep:
                Path(self.stream.name).unlink(missing_ok=True)
        self.stream = None


def remove_spooled(records: Iterable[Record]) -> None:
    """Remove the files in which records waited, when these were taken or refused."""
    for path in {record.codestream.path: None for record in records if isinstance(record.codestream, Spooled)}:
        path.unlink(missing_ok=True)
