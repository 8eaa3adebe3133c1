"""Reading a store: the catalog as one table, and an image's pixels after their checksum was verified."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scoutview.errors import RunError, UsageError
from scoutview.images import MODALITIES, Spectrum, decode_spectrum
from scoutview.objects import is_url
from scoutview.store.blocks import BlockCache, Range
from scoutview.store.catalog import SCHEMA, ImageRow, read_parquet, rows_of, with_all_columns
from scoutview.store.codec import LEVELS, announced_shape, decode
from scoutview.store.handles import Handles
from scoutview.store.index import IndexRow
from scoutview.store.merging import derived_folder, merge_catalog, only_builder, read_catalog_file, remove_derived
from scoutview.store.mirror import mirror
from scoutview.store.seal import checksum_fits, verify

STORE_VERSION = 1
_SHARD = re.compile(r"[0-9a-f]{1,64}\.tar")

QUARANTINE = pa.schema(
    [
        ("path", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("file_key", pa.string()),
        ("file_stamp", pa.string()),
    ]
)

Buffer = bytes | memoryview


class DamagedRecordError(RunError):
    """A record whose bytes are not those that were written."""


def read_store_json(path: Path) -> dict[str, Any]:
    """The content of store.json.

    Raises:
        UsageError: if there is none, it cannot be read, or another version wrote it.
    """
    file = path / "store.json"
    if not file.is_file():
        raise UsageError(f"{path} is not a store (it has no store.json): make one with scoutview ingest")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = content["version"]
        if not checksum_fits(content):
            raise ValueError("its checksum differs from what was written")
        kinds = {"salt_id": str, "reference_energies": dict} if version == STORE_VERSION else {}
        if not all(isinstance(content[key], kind) for key, kind in kinds.items()):
            raise ValueError("its entries are of the wrong kind")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{file} is damaged ({error}): restore it from a copy or ingest again") from error
    if version != STORE_VERSION:
        raise UsageError(
            f"{path} is a store of version {version}, this scoutview reads version {STORE_VERSION}: "
            "use the scoutview that wrote it, or ingest again"
        )
    return content


@dataclass(frozen=True)
class Store:
    """A store opened for reading. Cheap to make and to send to another process; handles open when used.

    path: of its tables; of a store in a bucket they are copies, and its shards are read by `blocks`.
    """

    path: Path
    salt_id: str
    reference_energies: dict[str, Any]
    blocks: BlockCache | None = None
    handles: Handles = field(default_factory=Handles, compare=False, repr=False)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a store: a folder, or s3://bucket/prefix.

        Raises:
            UsageError: if there is no store, or a store of another version.
            RunError: if the tables of one in a bucket cannot be copied.
        """
        folder, blocks = mirror(str(path)) if is_url(str(path)) else (Path(path), None)
        content = read_store_json(folder)
        return cls(folder, content["salt_id"], content["reference_energies"], blocks)

    @property
    def shards(self) -> str:
        """Where its shards lie: a folder or a URL."""
        return self.blocks.url if self.blocks is not None else f"{self.path}/shards"

    def catalog_files(self) -> list[Path]:
        """The committed catalog files, sorted by modality and shard."""
        return [self.path / "catalog" / modality / name for modality, name in self._listing()]

    def snapshot(self) -> str:
        """16 hex digits that name the set of images: a hash over the (content-named) shards."""
        return _snapshot(self._listing())

    def _listing(self) -> list[tuple[str, str]]:
        """(modality, name) of the catalog files, sorted; paths of 10^5 files would take seconds."""
        found = []
        for folder in self.path.glob("catalog/*"):
            modality = folder.name
            if folder.is_dir() and modality != "merged":
                with os.scandir(folder) as entries:
                    found += [(modality, entry.name) for entry in entries if entry.name.endswith(".parquet")]
        return sorted(found)

    def catalog(self) -> Any:
        """All rows as one Arrow table, sorted by modality, shard and place in the shard.

        A merged copy is kept in catalog/merged and rebuilt when the set of shards has changed.

        Raises:
            RunError: if a catalog file is damaged.
        """
        merged = self.merged_catalog()
        if merged is None:
            return SCHEMA.empty_table()
        try:
            return with_all_columns(read_parquet(merged))
        except (pa.ArrowException, OSError, ValueError):
            merged.unlink(missing_ok=True)
            return self.catalog()

    def merged_catalog(self) -> Path | None:
        """The file with all rows, as `merged_path`, after its seal was verified; without a whole one it is made again.

        Raises:
            RunError: if a catalog file is damaged.
        """
        merged = self.merged_path()
        if merged is None:
            return None
        try:
            verify(merged, sealed=True)
        except OSError:
            merged.unlink(missing_ok=True)
            return self.merged_path()
        return merged

    def merged_path(self) -> Path | None:
        """Where all rows lie, sorted by modality, shard and place in the shard; None when there are none.

        Raises:
            RunError: if a catalog file is damaged.
        """
        listing = self._listing()
        if not listing:
            return None
        snapshot, folder = _snapshot(listing), derived_folder(self.path)
        merged = folder / f"{snapshot}.parquet"
        if not merged.exists():
            with only_builder(folder):
                if not merged.exists():
                    remove_derived(folder, keep=snapshot)
                    merge_catalog(self.catalog_files(), merged)
        return merged

    def rows(self) -> list[ImageRow]:
        """The catalog as a list of rows."""
        return rows_of(self.catalog())

    def quarantined(self) -> list[dict[str, str]]:
        """Every file that was not taken: path, reason, detail.

        Raises:
            RunError: if the list is damaged.
        """
        file = self.path / "quarantine.parquet"
        if not file.exists():
            return []
        try:
            entries: list[dict[str, str]] = read_parquet(file).cast(QUARANTINE).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise RunError(
                f"{file} is damaged ({error}): remove it, and ingest again to list what is not taken"
            ) from error
        return entries

    def read(self, row: ImageRow | IndexRow, level: int = 0) -> npt.NDArray[np.int16]:
        """Stored values int16 [row, column] at 1 / 2^level resolution; the crc32 is checked before the decode.

        Raises:
            DamagedRecordError: if the bytes are not those that were written.
        """
        return self.read_record(row, level)[0]

    def read_record(
        self, row: ImageRow | IndexRow, level: int = 0, out: npt.NDArray[np.int16] | None = None
    ) -> tuple[npt.NDArray[np.int16], Spectrum]:
        """Pixels as `read`, decoded into `out` when it is given, and the stored radial spectrum, in one range read."""
        codestream, spectrum = self.read_bytes(row, level)
        return decode(codestream, level, out), decode_spectrum(spectrum)

    def read_bytes(self, row: ImageRow | IndexRow, level: int = 0) -> tuple[memoryview, memoryview]:
        """The codestream, or its prefix for a level, and the spectrum as they are stored; both checksums are checked.

        Raises:
            DamagedRecordError: if they are not those that were written.
        """
        length, expected = _prefix(row, level)
        begin = row.offset_in_shard - row.spectrum_offset

        def is_whole(data: memoryview) -> bool:
            return (
                zlib.crc32(data[begin:]) == expected and zlib.crc32(data[: row.spectrum_nbytes]) == row.spectrum_crc32
            )

        data = self._verified(row, row.spectrum_offset, begin + length, is_whole)
        self._check_shape(row, data[begin:])
        return data[begin:], data[: row.spectrum_nbytes]

    def read_run(self, rows: Sequence[ImageRow]) -> Iterator[npt.NDArray[np.int16]]:
        """Stored values of images that lie one after the other in a shard, such as a volume's, in one range read.

        Raises:
            DamagedRecordError: if the bytes are not those that were written.
        """
        if not rows:
            return
        start = rows[0].spectrum_offset
        data = memoryview(self._pread(rows[0], start, rows[-1].offset_in_shard + rows[-1].nbytes - start))
        for row in rows:
            codestream = data[row.offset_in_shard - start :][: row.nbytes]
            # An image that did not arrive whole is read, and judged, by itself.
            if zlib.crc32(codestream) != row.crc32:
                yield self.read(row)
            else:
                self._check_shape(row, codestream)
                yield decode(codestream)

    def read_spectrum(self, row: ImageRow | IndexRow) -> Spectrum:
        """The stored radial spectrum alone."""
        expected = row.spectrum_crc32
        data = self._verified(
            row, row.spectrum_offset, row.spectrum_nbytes, lambda data: zlib.crc32(data) == expected, "the spectrum of "
        )
        return decode_spectrum(data)

    def fetch(self, wanted: Sequence[tuple[ImageRow | IndexRow, int]]) -> None:
        """Have the bytes of (row, level) here soon, of a store in a bucket: many together hide the latency."""
        if self.blocks is not None:
            self.blocks.fetch(
                [
                    _range_of(
                        row, row.spectrum_offset, row.offset_in_shard - row.spectrum_offset + _prefix(row, level)[0]
                    )
                    for row, level in wanted
                ]
            )

    def _verified(
        self, row: ImageRow | IndexRow, offset: int, length: int, is_whole: Callable[[memoryview], bool], part: str = ""
    ) -> memoryview:
        """Bytes of a shard that pass a check; a bad download is fetched once more."""
        data = memoryview(self._pread(row, offset, length))
        if self.blocks is not None and not is_whole(data):
            self.blocks.forget(_range_of(row, offset, length))
            data = memoryview(self._pread(row, offset, length))
        if not is_whole(data):
            raise DamagedRecordError(
                f"{part}image {self._name(row)} in {self.shards}/{row.modality}/{row.shard} at byte "
                f"{row.offset_in_shard} is damaged (its checksum differs): run scoutview fsck on the store"
            )
        return data

    def _check_shape(self, row: ImageRow | IndexRow, codestream: memoryview) -> None:
        """Before it is decoded: whoever wrote the store may have written checksums that fit."""
        if announced_shape(codestream) != (row.rows, row.columns):
            raise DamagedRecordError(
                f"image {self._name(row)} in {self.shards}/{row.modality}/{row.shard} is damaged (its codestream is "
                f"not one of {row.rows} x {row.columns} px): restore the shard from a copy"
            )

    def _name(self, row: ImageRow | IndexRow) -> str:
        """The image id, which the index does not hold."""
        if isinstance(row, ImageRow):
            return row.image
        file = self.path / "catalog" / row.modality / f"{row.shard.removesuffix('.tar')}.parquet"
        name: str = read_catalog_file(file).column("image")[row.place].as_py()
        return name

    def _pread(self, row: ImageRow | IndexRow, offset: int, length: int) -> bytes:
        path = f"{self.shards}/{row.modality}/{row.shard}"
        if row.modality not in MODALITIES or not _SHARD.fullmatch(row.shard) or offset < 0 or length < 0:
            raise DamagedRecordError(f"{path} at byte {offset} is no place in the store: its catalog is damaged")
        try:
            if self.blocks is not None:
                return self.blocks.read(_range_of(row, offset, length))
            return self.handles.read(path, offset, length)
        except FileNotFoundError as error:
            raise DamagedRecordError(
                f"shard {path} is missing: restore it from a copy; scoutview fsck lists its images"
            ) from error
        except OSError as error:
            raise DamagedRecordError(
                f"shard {path} cannot be read at byte {offset} ({error.strerror or error}): check the disk or the "
                "connection, or restore the shard from a copy"
            ) from error


def _snapshot(listing: Sequence[tuple[str, str]]) -> str:
    names = "\n".join(f"{modality}/{name.removesuffix('.parquet')}" for modality, name in listing)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _prefix(row: ImageRow | IndexRow, level: int) -> tuple[int, int]:
    """(length, crc32) of the codestream's prefix for a level."""
    if not 0 <= level <= LEVELS:
        raise ValueError(f"level {level} is not one of 0..{LEVELS}")
    return (
        (row.nbytes, row.crc32),
        (row.prefix_nbytes_2, row.prefix_crc32_2),
        (row.prefix_nbytes_4, row.prefix_crc32_4),
        (row.prefix_nbytes_8, row.prefix_crc32_8),
    )[level]


def _range_of(row: ImageRow | IndexRow, begin: int, length: int) -> Range:
    # Of the small modalities every epoch of the large ones needs all, many times.
    return Range(f"{row.modality}/{row.shard}", begin, length, first=row.modality in ("xray", "us"))
