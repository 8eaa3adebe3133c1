"""Images that must stay out of a store: they stand in another one, such as a declared test set, or in a list."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.images.hashes import small_copy
from scoutview.store import ImageRow, Record, Store
from scoutview.store.codec import decode
from scoutview.store.duplicates import Lookalikes, level_for

LISTED = "pixel_sha256"
"""The column of a list that says what is excluded."""


@dataclass(frozen=True)
class Exclusion:
    """What is excluded. pixels: by SHA-256; instances, patients: by key, of stores made under the same secret.

    listed: pixels that a list names.
    """

    pixels: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    looks: tuple[Lookalikes, ...] = ()
    listed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, sources: Sequence[Path], salt_id: str) -> Exclusion:
        """Everything that the stores hold, and the very images that lists (.csv, see `read_list`) name.

        Raises:
            UsageError: if a folder is no store, or is empty, or a file is no list.
            RunError: if one is damaged.
        """
        lists = [path for path in sources if path.suffix.lower() == ".csv" and not path.is_dir()]
        stores = [path for path in sources if path not in lists]
        pixels: set[str] = set()
        instances: set[str] = set()
        patients: set[str] = set()
        looks = []
        for path in stores:
            store = Store.open(path)
            rows = store.rows()
            if not rows:
                raise UsageError(f"{path} is to be excluded and holds no image: give the store of the test set")
            pixels.update(row.pixel_sha256 for row in rows)
            if store.salt_id == salt_id:
                instances.update(row.instance_key for row in rows if row.instance_key)
                patients.update(row.patient for row in rows)
            looks.append(Lookalikes.of(store, rows))
        listed = frozenset(digest for path in lists for digest in read_list(path))
        return cls(frozenset(pixels), frozenset(instances), frozenset(patients), tuple(looks), listed)

    def held_by(self, rows: Sequence[ImageRow]) -> int:
        """How many images of a store are excluded by their pixels, instance or patient."""
        return sum(bool(self._known(row)) for row in rows)

    def objection(self, records: Sequence[Record]) -> str:
        """Why images that belong together are excluded; one of them is enough. "" when none is."""
        for record in records:
            why = self._known(record.row) or self._alike(record)
            if why:
                return why
        return ""

    def _known(self, row: ImageRow) -> str:
        if row.pixel_sha256 in self.pixels:
            return "an excluded store holds the same pixels"
        if row.pixel_sha256 in self.listed:
            return "a list of what is excluded names its pixels"
        if row.instance_key in self.instances:
            return "an excluded store holds its SOP Instance UID"
        return "an excluded store holds its patient" if row.patient in self.patients else ""

    def _alike(self, record: Record) -> str:
        if not self.looks:
            return ""
        row = record.row
        level = level_for(row)
        length = (row.nbytes, row.prefix_nbytes_2, row.prefix_nbytes_4, row.prefix_nbytes_8)[level]
        copy = small_copy(decode(record.data()[:length], level))
        for look in self.looks:
            if look.like(row.modality, row.difference_hash, copy):
                return "an excluded store holds an image that looks the same"
        return ""


def read_list(path: Path) -> list[str]:
    """The SHA-256 of stored pixels, 64 hex digits, that the column pixel_sha256 of a CSV file names.

    Raises:
        UsageError: if there is no such file or column, or a value is something else.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if LISTED not in (reader.fieldnames or ()):
                raise UsageError(f"{path} has no column {LISTED}: give a store, or a list that scoutview atlas wrote")
            digests = [str(entry[LISTED] or "").strip().lower() for entry in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a CSV file ({error}): give a store or a list of images") from error
    for number, digest in enumerate(digests, start=1):
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise UsageError(f"{path}, entry {number}: {LISTED} has to be 64 hex digits, not {digest[:80]!r}: mend it")
    return digests


NOTHING = Exclusion()
