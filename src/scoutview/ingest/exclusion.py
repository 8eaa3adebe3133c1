"""Images that must stay out of a store because they stand in another one, such as a declared test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.images.hashes import small_copy
from scoutview.store import ImageRow, Record, Store
from scoutview.store.codec import decode
from scoutview.store.duplicates import Lookalikes, level_for


@dataclass(frozen=True)
class Exclusion:
    """What is excluded. pixels: by SHA-256; instances, patients: by key, of stores made under the same secret."""

    pixels: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    looks: tuple[Lookalikes, ...] = ()

    @classmethod
    def of(cls, stores: Sequence[Path], salt_id: str) -> Exclusion:
        """Everything that the stores hold.

        Raises:
            UsageError: if a folder is no store, or is empty.
            RunError: if one is damaged.
        """
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
        return cls(frozenset(pixels), frozenset(instances), frozenset(patients), tuple(looks))

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


NOTHING = Exclusion()
