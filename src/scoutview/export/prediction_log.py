"""What was predicted so far: one line per file, only ever appended, so that a kill costs one batch."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from scoutview.errors import RunError, UsageError
from scoutview.files import sync


@dataclass
class PredictionLog:
    """Entries by name; each line is its CRC-32 and JSON. The last entry of a name holds.

    places: name -> (where its line begins, stamp of the file it is about).
    """

    path: Path
    places: dict[str, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any]) -> Self:
        """Make a log, or go on with one; a last line that a kill cut short is dropped.

        identity: of model and source, which must be those that the log began with.

        Raises:
            UsageError: if it is of another model or source.
            RunError: if a line is damaged.
        """
        log = cls(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            log._write([_line(dict(identity))])
            sync(path.parent)
            return log
        end = 0
        with path.open("rb+") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    break
                entry = _entry(line)
                if entry is None:
                    raise RunError(f"line {number} of {path} is damaged: remove the file, then all is predicted anew")
                if number == 1:
                    _check_identity(entry, identity, path)
                else:
                    log.places[entry["name"]] = (end, entry["stamp"])
                end += len(line)
            stream.truncate(end)
        if end == 0:
            log._write([_line(dict(identity))])
        return log

    def has(self, name: str, stamp: str) -> bool:
        """Whether a file was predicted or refused as it is now."""
        return name in self.places and self.places[name][1] == stamp

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add entries, which have a name and a stamp; they are on the disk when this returns."""
        end = self.path.stat().st_size
        lines = []
        for entry in entries:
            lines.append(_line(entry))
            self.places[entry["name"]] = (end, entry["stamp"])
            end += len(lines[-1])
        self._write(lines)

    def entries(self, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The entries of these names, in this order; names without one are passed over.

        Raises:
            RunError: if a line is damaged.
        """
        with self.path.open("rb") as stream:
            for name in names:
                if name in self.places:
                    stream.seek(self.places[name][0])
                    entry = _entry(stream.readline())
                    if entry is None:
                        raise RunError(f"{self.path} was changed while it was read: run the command again")
                    yield entry

    def _write(self, lines: list[bytes]) -> None:
        with self.path.open("ab") as stream:
            stream.write(b"".join(lines))
            stream.flush()
            os.fsync(stream.fileno())


def _check_identity(entry: Mapping[str, Any], identity: Mapping[str, Any], path: Path) -> None:
    differing = [key for key in identity if entry.get(key) != identity[key]]
    if differing:
        raise UsageError(f"{path.parent} holds predictions with another {differing[0]}: give another --out")


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entry(line: bytes) -> dict[str, Any] | None:
    """None if the line is not as it was written."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry
