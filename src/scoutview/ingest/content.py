"""The bytes of a source file as a file on this machine, wherever they lie; every reader takes a path."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scoutview.ingest.files import Part, SourceFile
from scoutview.ingest.refusals import RefusedError
from scoutview.objects import fetch

_BLOCK = 2**20


@contextmanager
def content_of(file: SourceFile, most: int | None = None) -> Iterator[Path]:
    """A path that holds the content of a file while the context lasts.

    most: so many bytes from its beginning are enough; a file that lies on this machine is never cut.
    A copy has no name in any folder where the system allows that: nothing stays when the process is killed.

    Raises:
        RefusedError: truncated, decode_error or unreadable.
    """
    if file.part is None and not file.url:
        yield file.path
        return
    unnamed = Path("/proc/self/fd").is_dir()
    with tempfile.TemporaryFile() if unnamed else tempfile.NamedTemporaryFile(prefix="scoutview-") as stream:
        _fill(file, stream, most)
        stream.flush()
        yield Path(f"/proc/self/fd/{stream.fileno()}") if unnamed else Path(stream.name)


def _fill(file: SourceFile, stream: IO[bytes], most: int | None) -> None:
    try:
        if file.url:
            written = fetch(file.url, stream, most)
            if most is None and written != int(file.stamp.partition("-")[0]):
                raise RefusedError("unreadable", "fewer bytes arrived than were listed")
        elif file.part is not None:
            with file.path.open("rb") as archive:
                archive.seek(file.part.begin)
                _copy(archive, stream, file.part, most)
    except OSError as error:
        raise RefusedError("unreadable", "it cannot be copied from where it lies") from error


def _copy(archive: IO[bytes], stream: IO[bytes], part: Part, most: int | None) -> None:
    """Copy a member, unpacked; never more bytes than its archive announced.

    Raises:
        RefusedError: truncated, or decode_error when the bytes are not those that were packed.
    """
    wanted = part.nbytes if most is None else min(most, part.nbytes)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if part.deflated else None
    left, written, crc = part.packed, 0, 0
    while written < wanted:
        if inflate is not None and inflate.unconsumed_tail:
            packed = inflate.unconsumed_tail
        else:
            packed = archive.read(min(_BLOCK, left))
            left -= len(packed)
            if not packed and inflate is None:
                raise RefusedError("truncated", "the archive ends within it")
        try:
            block = inflate.decompress(packed, min(_BLOCK, wanted - written)) if inflate is not None else packed
        except zlib.error as error:
            raise RefusedError("decode_error", "damaged data in an archive") from error
        if not block and not packed:
            raise RefusedError("truncated", "the archive ends within it")
        block = block[: wanted - written]
        written += stream.write(block)
        crc = zlib.crc32(block, crc)
    if part.crc32 is not None and written == part.nbytes and crc != part.crc32:
        raise RefusedError("decode_error", "the checksum in its archive differs")
