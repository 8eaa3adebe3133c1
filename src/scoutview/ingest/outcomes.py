"""What became of one file."""

from __future__ import annotations

from dataclasses import dataclass

from scoutview.ingest.files import SourceFile
from scoutview.store import Record


@dataclass(frozen=True)
class Outcome:
    """Records, or a reason. constant: images of one value within the file that were left out."""

    file: SourceFile
    stamp: str
    records: tuple[Record, ...] = ()
    reason: str = ""
    detail: str = ""
    constant: int = 0
