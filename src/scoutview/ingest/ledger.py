"""What the store knows of the files of a run, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from scoutview.images import Modality
from scoutview.ingest.files import SourceFile, stamp_of
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.store import ImageRow, Store

_TRIED_AGAIN = (
    "unreadable", "killed_the_reader", "no_decoder", "gap", "duplicate_position", "shifted_slices", "text_unknown",
    "excluded",
)  # fmt: skip
"""Refusals that may end without a change of the file: by other files of its series, or by another option."""
_DEPEND_ON_MODALITY = ("unknown_modality", "color", "not_hu")
"""Refusals that another --modality may lift."""


@dataclass(frozen=True)
class IngestSummary:
    """Counts over all files of the sources, those that an earlier run took included.

    files = taken + quarantined. volumes: of three or more slices, from one file or several. reasons: code -> files.
    constant: slices of one value that this run left out. notes: what a reader of the table should know.
    """

    files: int
    taken: int
    quarantined: int
    images: int
    volumes: int
    reasons: dict[str, int]
    constant: int = 0
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, Any]:
        """The line that programs read."""
        names = ("files", "taken", "quarantined", "images", "volumes", "reasons")
        return {name: getattr(self, name) for name in names}


@dataclass
class Ledger:
    """files: file key -> stamp as listed now. Catalog: file key -> stamp, images, and who owns which image.

    volumes: file key -> the volumes it holds slices of.
    outcome: file key -> reason, "" when taken, for every file that is settled.
    """

    files: dict[str, str]
    stamps: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    volumes: dict[str, set[str]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    instances: set[str] = field(default_factory=set)
    quarantined: set[str] = field(default_factory=set)
    outcome: dict[str, str] = field(default_factory=dict)
    constant: int = 0

    @classmethod
    def of(
        cls, store: Store, files: Mapping[str, SourceFile], modality: Modality | None, pseudonyms: Pseudonyms
    ) -> Self:
        """Read the catalog and the quarantine; files that are as they were are settled."""
        ledger = cls({key: pseudonyms.key("stamp", stamp_of(file)) for key, file in files.items()})
        for row in store.rows():
            ledger._note(row, row.file_key)
            ledger.stamps[row.file_key] = row.file_stamp
        for key, stamp in ledger.files.items():
            if ledger.stamps.get(key) == stamp:
                ledger.outcome[key] = ""
        for entry in store.quarantined():
            key, reason = entry["file_key"], entry["reason"]
            ledger.quarantined.add(key)
            again = reason.startswith(_TRIED_AGAIN) or (modality is not None and reason in _DEPEND_ON_MODALITY)
            if ledger.files.get(key) == entry["file_stamp"] and not again and key not in ledger.outcome:
                ledger.outcome[key] = reason
        return ledger

    def is_settled(self, key: str) -> bool:
        """Whether the file need not be read."""
        return key in self.outcome

    def holds(self, image: str) -> bool:
        """Whether the catalog has this image."""
        return image in self.owners

    def objection(self, key: str, rows: Sequence[ImageRow]) -> tuple[str, str]:
        """Why the images of a file that could be read are not taken, as (reason, detail), or ("", "").

        A file that only has a new date, or lies at a new place, holds the images that the store has: it is
        taken, and adds nothing.
        """
        owners = {self.owners.get(row.image, "") for row in rows}
        if key in self.stamps:
            if owners == {key}:
                return "", ""
            return "changed_after_ingest", "its content is not the one that was taken"
        if owners != {""}:
            if any(owner in self.files and owner != key for owner in owners):
                return "duplicate_instance", "its image was taken from another file"
            if "" in owners:
                return "changed_after_ingest", "its content is not the one that was taken from another place"
            return "", ""
        if any(row.instance_key in self.instances for row in rows if row.instance_key):
            return "instance_conflict", "its SOP Instance UID was taken with other pixels"
        return "", ""

    def accept(self, key: str, rows: Sequence[ImageRow]) -> None:
        """Note a file as taken."""
        if key not in self.stamps:
            for row in rows:
                self._note(row, key)
            self.stamps[key] = self.files[key]
        self.outcome[key] = ""

    def refuse(self, key: str, reason: str) -> None:
        """Note a file as quarantined."""
        self.outcome[key] = reason

    def no_longer_quarantined(self) -> set[str]:
        """Files with an entry in the quarantine that are taken now."""
        return {key for key in self.quarantined if self.outcome.get(key) == ""}

    def summary(self, notes: tuple[str, ...]) -> IngestSummary:
        """Counts over every listed file."""
        taken = [key for key in self.files if self.outcome[key] == ""]
        reasons = Counter(reason for reason in self.outcome.values() if reason)
        return IngestSummary(
            files=len(self.files),
            taken=len(taken),
            quarantined=len(self.files) - len(taken),
            images=sum(self.counts[key] for key in taken),
            volumes=len(set().union(*(self.volumes.get(key, set()) for key in taken))),
            reasons=dict(sorted(reasons.items())),
            constant=self.constant,
            notes=notes,
        )

    def _note(self, row: ImageRow, key: str) -> None:
        self.counts[key] += 1
        self.owners.setdefault(row.image, key)
        if row.stack:
            self.volumes.setdefault(key, set()).add(row.stack)
        if row.instance_key:
            self.instances.add(row.instance_key)
