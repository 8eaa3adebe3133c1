"""Objects of a bucket, by obstore: `s3://bucket/prefix`. Credentials, region and endpoint come from AWS_* variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import IO, Any

from scoutview.errors import UsageError

CHUNK = 8 * 2**20


@dataclass(frozen=True)
class ObjectEntry:
    """An object below a prefix. relative: its key below the prefix. stamp: changes with its content."""

    url: str
    name: str
    relative: str
    nbytes: int
    stamp: str


def is_url(text: str) -> bool:
    """Whether a source is a bucket rather than a path."""
    return text.startswith("s3:/")


def objects_in(url: str) -> Iterator[ObjectEntry]:
    """Every object below a prefix, in the order of their keys.

    Raises:
        UsageError: the bucket cannot be listed.
    """
    bucket, prefix = split_url(url)
    folder = prefix.rstrip("/")
    try:
        entries = [entry for batch in bucket_of(bucket).list(folder or None) for entry in batch]
    except Exception as error:  # obstore has an error class for each kind of answer
        raise UsageError(
            f"{url} cannot be listed ({_short(error)}): check its name, AWS_ENDPOINT_URL, AWS_REGION and credentials"
        ) from error
    for entry in sorted(entries, key=lambda entry: entry["path"]):
        key = entry["path"]
        relative = key[len(folder) :].lstrip("/") if folder else key
        name = PurePosixPath(key).name
        stamp = f"{entry['size']}-{entry.get('e_tag') or entry['last_modified'].isoformat()}"
        yield ObjectEntry(f"s3://{bucket}/{key}", name, relative or name, entry["size"], stamp)


def split_url(url: str) -> tuple[str, str]:
    """(bucket, key or prefix).

    Raises:
        UsageError: it names no bucket.
    """
    bucket, _, key = url.removeprefix("s3:").lstrip("/").partition("/")
    if not bucket:
        raise UsageError(f"{url} names no bucket: give s3://bucket/prefix")
    return bucket, key


@lru_cache(maxsize=8)
def bucket_of(bucket: str) -> Any:
    """The client of a bucket; opened in the process that uses it, since it holds threads.

    Raises:
        UsageError: obstore is not installed.
    """
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise UsageError("reading s3:// needs obstore: pip install 'scoutview[s3]'") from error
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return S3Store(bucket, client_options={"allow_http": plain})


def fetch(url: str, stream: IO[bytes], most: int | None = None) -> int:
    """Write an object, or its first `most` bytes, into a stream; returns how many were written.

    Raises:
        FileNotFoundError: the object is gone.
        OSError: the server does not answer.
    """
    if most is not None:
        return stream.write(read_range(url, 0, most))
    bucket, key = split_url(url)
    with _errors_of(url):
        return sum(stream.write(bytes(chunk)) for chunk in bucket_of(bucket).get(key).stream(CHUNK))


def read_range(url: str, begin: int, length: int) -> bytes:
    """Up to `length` bytes of an object from `begin` on; fewer where it ends.

    Raises:
        FileNotFoundError: the object is gone.
        OSError: the server does not answer.
    """
    bucket, key = split_url(url)
    with _errors_of(url):
        return bytes(bucket_of(bucket).get_range(key, start=begin, length=length))


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url} is not there") from error
    except Exception as error:  # obstore has an error class for each kind of answer
        raise OSError(f"{url}: {_short(error)}") from error


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
