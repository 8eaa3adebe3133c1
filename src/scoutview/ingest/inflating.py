"""Compressed data inflated into a temporary file, never beyond the size that is announced (zlib, gzip, deflate)."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

from scoutview.ingest.refusals import RefusedError

DEFLATE, ZLIB, GZIP = -15, 15, 31
"""How the data are wrapped, as zlib counts it; the last two end in a checksum."""
IN_MEMORY = 2**26
"""Bytes; more lies in an unnamed file of the folder for temporary files."""
_STEP = 2**20


def inflate(source: IO[bytes], wrapping: int, least: int, most: int, before: bytes = b"") -> IO[bytes]:
    """An unnamed file, closed by the caller, that holds `before` and what `source` inflates to from where it stands.

    Raises:
        RefusedError: truncated below `least` bytes, too_large above `most`, decode_error for damaged data.
    """
    result: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 the caller closes it
    size = 0
    try:
        result.write(before)
        for part in _parts(source, wrapping):
            size += len(part)
            if size > most:
                raise RefusedError("too_large", f"it inflates to more than the {most} bytes that it may hold")
            result.write(part)
        if size < least:
            raise RefusedError("truncated", f"it inflates to {size} bytes where {least} are announced")
    except zlib.error as error:
        result.close()
        raise RefusedError("decode_error", "damaged compressed data") from error
    except BaseException:
        result.close()
        raise
    result.seek(0)
    return result


def inflated_head(source: IO[bytes], wrapping: int, nbytes: int) -> bytes:
    """The first bytes that `source` inflates to, at most `nbytes`; the source is back at where it stood.

    Raises:
        RefusedError: decode_error for damaged data.
    """
    begin = source.tell()
    inflater = zlib.decompressobj(wrapping)
    head = b""
    try:
        while len(head) < nbytes and not inflater.eof and (data := source.read(nbytes + 4096)):
            head += inflater.decompress(data, nbytes - len(head))
    except zlib.error as error:
        raise RefusedError("decode_error", "damaged compressed data") from error
    source.seek(begin)
    return head


def _parts(source: IO[bytes], wrapping: int) -> Iterator[bytes]:
    """What `source` inflates to, in parts of at most `_STEP` bytes; gzip members follow one another."""
    inflater = zlib.decompressobj(wrapping)
    data = source.read(_STEP)
    while data:
        yield inflater.decompress(data, _STEP)
        data = inflater.unconsumed_tail or (b"" if inflater.eof else source.read(_STEP))
        if inflater.eof and wrapping == GZIP:
            data = inflater.unused_data.lstrip(b"\0")
            while not data and (more := source.read(_STEP)):
                data = more.lstrip(b"\0")
            inflater = zlib.decompressobj(wrapping) if data else inflater
    yield inflater.flush()
    if not inflater.eof:
        raise RefusedError("truncated", "the compressed data end early")
