"""A record is an image and its spectrum as two neighbouring members of a plain tar file.

`tar tf` lists a shard and any HTJ2K reader opens a member. The spectrum comes first, so that one range read
covers it and any prefix of the codestream. The last member holds the catalog rows of the shard, which the catalog
can be rebuilt from.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tarfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from scoutview.files import sync
from scoutview.images import Image, difference_hash
from scoutview.store.catalog import (
    INGEST_VERSION,
    SCHEMA,
    ImageRow,
    parquet_bytes,
    parquet_from_bytes,
    rows_to_table,
    with_all_columns,
)
from scoutview.store.codec import CODEC, encode, prefix_lengths

SHARD_BYTES = 256 * 2**20
ROWS_MEMBER = "rows.parquet"
"""The rows as in the catalog, but for the name of the shard, which follows from its content; not compressed, so that a
search of the bytes of a shard sees them."""
_BLOCK = 512
_NAME = 32
"""Hexadecimal digits of the hash that names a shard."""


@dataclass(frozen=True)
class Keys:
    """Keyed hashes that stand for identifiers in the store; see `scoutview.ingest.pseudonyms`."""

    image: str
    patient: str
    study: str
    series: str
    file: str
    path: str
    name: str
    instance: str
    stamp: str
    split: str
    stack: str = ""


@dataclass(frozen=True)
class Spooled:
    """A codestream that waits in a file, so that memory does not hold all images of a large file at once."""

    path: Path
    begin: int
    nbytes: int

    def read(self) -> bytes:
        """The codestream."""
        with self.path.open("rb") as stream:
            stream.seek(self.begin)
            return stream.read(self.nbytes)


@dataclass(frozen=True)
class Record:
    """An encoded image on its way to a shard: the row's place in the shard is filled in by the writer."""

    row: ImageRow
    codestream: bytes | Spooled
    spectrum: bytes

    def data(self) -> bytes:
        """The codestream, from memory or from the file where it waits."""
        return self.codestream.read() if isinstance(self.codestream, Spooled) else self.codestream


def make_record(image: Image, keys: Keys, spectrum: bytes, spectrum_preprocessing: str) -> Record:
    """Encode an image (verified), hash and measure it."""
    codestream = encode(image.pixels)
    prefixes = prefix_lengths(codestream)
    statistics = image.statistics
    row = ImageRow(
        image=keys.image,
        modality=image.modality,
        shard="",
        offset_in_shard=0,
        nbytes=len(codestream),
        crc32=zlib.crc32(codestream),
        codec=CODEC,
        prefix_nbytes_2=prefixes[0],
        prefix_nbytes_4=prefixes[1],
        prefix_nbytes_8=prefixes[2],
        prefix_crc32_2=zlib.crc32(codestream[: prefixes[0]]),
        prefix_crc32_4=zlib.crc32(codestream[: prefixes[1]]),
        prefix_crc32_8=zlib.crc32(codestream[: prefixes[2]]),
        spectrum_offset=0,
        spectrum_nbytes=len(spectrum),
        spectrum_crc32=zlib.crc32(spectrum),
        spectrum_preprocessing=spectrum_preprocessing,
        rows=image.pixels.shape[0],
        columns=image.pixels.shape[1],
        dtype="int16",
        shifted=image.shifted,
        slope=image.slope,
        offset=image.offset,
        units=image.units,
        row_spacing=image.spacing[0] if image.spacing else None,
        column_spacing=image.spacing[1] if image.spacing else None,
        body_part=image.body_part,
        view=image.view,
        patient=keys.patient,
        study=keys.study,
        series=keys.series,
        slice_index=image.slice_index,
        slice_position=image.slice_position,
        split=keys.split,
        minimum=statistics.minimum,
        low=statistics.low,
        high=statistics.high,
        maximum=statistics.maximum,
        mean=statistics.mean,
        deviation=statistics.deviation,
        pixel_sha256=image.sha256,
        difference_hash=difference_hash(image.pixels),
        source_format=image.source_format,
        manufacturer=image.manufacturer,
        file_key=keys.file,
        path_key=keys.path,
        name_key=keys.name,
        instance_key=keys.instance,
        file_stamp=keys.stamp,
        ingest_version=INGEST_VERSION,
        stack=keys.stack,
        slice_spacing=image.slice_spacing,
        affine=image.affine,
        window=image.window,
        flags=" ".join(image.flags),
    )
    return Record(row=row, codestream=codestream, spectrum=spectrum)


class ShardFile:
    """A shard being written under a temporary name; `close` fsyncs it and names it by its content."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / f".writing-{os.getpid()}.tar"
        self.file: BinaryIO = self.path.open("wb")
        self.digest = hashlib.sha256()
        self.position = 0
        self.rows: list[ImageRow] = []

    def append(self, record: Record) -> None:
        """Append the spectrum and the codestream as tar members and remember where they lie."""
        spectrum_offset = self._member(f"{record.row.image}.spectrum", record.spectrum)
        offset = self._member(f"{record.row.image}.j2c", record.data())
        self.rows.append(replace(record.row, spectrum_offset=spectrum_offset, offset_in_shard=offset))

    def close(self) -> tuple[str, list[ImageRow]]:
        """Return the shard's name and its rows, complete. The shard is durable but not yet committed."""
        self._member(ROWS_MEMBER, parquet_bytes(rows_to_table(self.rows)))
        self._write(b"\0" * (2 * _BLOCK))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        name = f"{self.digest.hexdigest()[:_NAME]}.tar"
        self.path.replace(self.folder / name)
        sync(self.folder)
        return name, [replace(row, shard=name) for row in self.rows]

    def discard(self) -> None:
        """Drop what was written; nothing of it was committed."""
        # Closing flushes, which fails again on a full disk.
        with suppress(OSError):
            self.file.close()
        self.path.unlink(missing_ok=True)

    def _member(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self.position
        self._write(data)
        self._write(b"\0" * (-len(data) % _BLOCK))
        return offset

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.position += len(data)


def shard_members(path: Path) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each member, read from the tar headers alone.

    Raises:
        tarfile.TarError, OSError: if the shard is not a readable tar file.
    """
    with tarfile.open(path, "r:") as archive:
        return [(member.name, member.offset_data, member.size) for member in archive]


def shard_rows(path: Path) -> Any:
    """The catalog rows that a shard carries, as a table of SCHEMA with the shard's name filled in.

    They are looked for from the end, so that damage before them does not hide them.

    Raises:
        OSError: if the shard is missing, or carries none that are whole.
    """
    header = tarfile.TarInfo(ROWS_MEMBER).tobuf(tarfile.USTAR_FORMAT)[: len(ROWS_MEMBER) + 1]
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.rfind(header)
        while place >= 0:
            with suppress(tarfile.HeaderError, OSError, pa.ArrowException, ValueError):
                member = tarfile.TarInfo.frombuf(content[place : place + _BLOCK], "utf-8", "strict")
                data = content[place + _BLOCK : place + _BLOCK + member.size]
                table = with_all_columns(parquet_from_bytes(data))
                name = pa.array([path.name] * table.num_rows, pa.string())
                return table.set_column(table.column_names.index("shard"), SCHEMA.field("shard"), name)
            place = content.rfind(header, 0, place)
    raise OSError("it carries no rows that are whole")


def shard_digest(path: Path) -> str:
    """The name that a shard's content asks for."""
    with path.open("rb") as stream:
        return f"{hashlib.file_digest(stream, 'sha256').hexdigest()[:_NAME]}.tar"
