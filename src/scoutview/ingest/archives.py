"""The members of tar and zip archives, by where their bytes lie: nothing is unpacked to list them.

A member's name is never a path on this machine: one that would lie outside the archive is refused, and the bytes
of the others are read by their offset. Only compressed tar files, which have no offsets, are unpacked for a run.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from scoutview.errors import RunError
from scoutview.ingest.files import Part, SourceFile

EXPANDED_BYTES = 4 * 2**30
"""Of one member. A larger one is refused: it may be a bomb."""
EXPANSION, SPARE_BYTES = 200, 2**30
"""Times its own size, and bytes more, that a compressed tar file may grow; images shrink by a factor of 2 to 10."""

ArchiveKind = Literal["tar", "compressed tar", "zip", ""]

_PACKED = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
_LOCAL_HEADER = 30


def archive_kind(path: Path) -> ArchiveKind:
    """What an archive is by its name and its first bytes; only files named as archives are looked into."""
    name = path.name.lower()
    if not name.endswith((".zip", ".tar", *_PACKED)) or name.startswith(".") or not path.is_file() or path.is_symlink():
        return ""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError:
        return ""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    packed = head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))
    return "compressed tar" if packed and name.endswith((".tar", *_PACKED)) else ""


def members_of_tar(archive: SourceFile, below: Path) -> list[SourceFile]:
    """The files of an uncompressed tar file; of several of one name the last, as tar unpacks it."""
    found: dict[str, SourceFile] = {}
    size = archive.path.stat().st_size
    try:
        with tarfile.open(archive.path, "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                part = Part(member.offset_data, member.size, member.size)
                stamp = f"{member.size}-{member.mtime}-{member.offset_data}"
                refusal = _refusal(member) or _bounds(part, size)
                found[member.name] = replace(_member(archive, below, member.name, stamp, refusal), part=part)
    except (tarfile.TarError, OSError, ValueError) as error:
        return [*found.values(), _damaged(archive, below, f"its members cannot be listed ({type(error).__name__})")]
    return list(found.values()) or [_damaged(archive, below, "it holds no file")]


def members_of_zip(archive: SourceFile, below: Path) -> list[SourceFile]:
    """The files of a zip archive; of several of one name the last. An .npz file is no archive, whatever its name."""
    size = archive.path.stat().st_size
    try:
        with zipfile.ZipFile(archive.path) as zipped, archive.path.open("rb") as stream:
            entries = {entry.filename: entry for entry in zipped.infolist() if not entry.is_dir()}
            if entries and all(name.endswith(".npy") for name in entries):
                return [archive]
            found = []
            for name, entry in entries.items():
                begin = _data_begin(stream, entry.header_offset)
                part = Part(begin, entry.compress_size, entry.file_size, entry.compress_type != 0, entry.CRC)
                stamp = f"{entry.file_size}-{entry.CRC}-{entry.date_time}"
                refusal = _zip_refusal(entry) or _bounds(part, size)
                found.append(replace(_member(archive, below, name, stamp, refusal), part=part))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        return [_damaged(archive, below, f"its members cannot be listed ({type(error).__name__})")]
    if _overlap([file.part for file in found if file.part is not None]):
        return [_damaged(archive, below, "its members share bytes, as a bomb's do", "archive")]
    return found or [_damaged(archive, below, "it holds no file")]


@contextmanager
def unpacked(files: Sequence[SourceFile], scratch: Path) -> Iterator[list[SourceFile]]:
    """The same files, with the members of compressed tar files unpacked below `scratch` while the context lasts.

    Raises:
        RunError: the disk of `scratch` is full.
    """
    if not any(file.compressed for file in files):
        yield list(files)
        return
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        result: list[SourceFile] = []
        for number, file in enumerate(files):
            result += _unpack(file, scratch / str(number)) if file.compressed else [file]
        yield result
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack(archive: SourceFile, folder: Path) -> list[SourceFile]:
    """Members under numbers for names: what a member is called never becomes a path."""
    folder.mkdir(parents=True)
    below = archive.relative
    left = EXPANSION * archive.path.stat().st_size + SPARE_BYTES
    found: dict[str, SourceFile] = {}
    try:
        with tarfile.open(archive.path, "r|*") as tar:
            for number, member in enumerate(tar):
                if member.isdir():
                    continue
                left -= member.size
                if left < 0:
                    raise ValueError(f"it grows to more than {EXPANSION} times its size")
                refusal = _refusal(member) or _bounds(Part(0, member.size, member.size), None)
                file = _member(archive, below, member.name, f"{member.size}-{member.mtime}-{number}", refusal)
                if file.refusal is None:
                    _write(tar.extractfile(member), folder / str(number))
                found[member.name] = replace(file, path=folder / str(number))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise RunError(
                f"{archive.path} cannot be unpacked into {folder.parent} ({error.strerror}): free space there, or "
                "unpack it elsewhere and give the folder"
            ) from error
        return [*found.values(), _damaged(archive, below, f"it cannot be unpacked to its end ({error})"[:120])]
    return list(found.values()) or [_damaged(archive, below, "it holds no file")]


def _write(stream: IO[bytes] | None, path: Path) -> None:
    assert stream is not None  # a regular member has data
    with path.open("wb") as target:
        shutil.copyfileobj(stream, target, 2**20)


def _member(archive: SourceFile, below: Path, name: str, stamp: str, refusal: tuple[str, str] | None) -> SourceFile:
    plain = name.replace("\\", "/")
    if refusal is None and (plain.startswith("/") or ".." in plain.split("/") or plain[1:2] == ":"):
        refusal = "unsafe_path", "its name leads out of the archive"
    relative = below / PurePosixPath(plain).as_posix().lstrip("/")
    return SourceFile(archive.path, relative, known_as=f"{archive.path}!/{name}", stamp=stamp, refusal=refusal)


def _refusal(member: tarfile.TarInfo) -> tuple[str, str] | None:
    if member.issym() or member.islnk():
        return "symlink", "a link within an archive is not followed"
    if not member.isreg():
        return "not_a_file", "not a regular file"
    return ("archive", "a sparse member") if member.issparse() else None


def _zip_refusal(entry: zipfile.ZipInfo) -> tuple[str, str] | None:
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "symlink", "a link within an archive is not followed"
    if entry.flag_bits & 0x1:
        return "encrypted", "a member that needs a password"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "archive", f"a member packed by method {entry.compress_type}"
    return None


def _bounds(part: Part, size: int | None) -> tuple[str, str] | None:
    if part.nbytes > EXPANDED_BYTES:
        return "too_large", f"a member of {part.nbytes} bytes"
    if size is not None and part.begin + part.packed > size:
        return "truncated", "the archive ends within it"
    return None


def _overlap(parts: Sequence[Part]) -> bool:
    ordered = sorted((part.begin, part.begin + part.packed) for part in parts)
    return any(second[0] < first[1] for first, second in pairwise(ordered))


def _data_begin(stream: IO[bytes], header: int) -> int:
    """Where the bytes of a member begin: its local header has its own lengths (APPNOTE 4.3.7)."""
    stream.seek(header)
    local = stream.read(_LOCAL_HEADER)
    if local[:4] != b"PK\x03\x04" or len(local) < _LOCAL_HEADER:
        raise zipfile.BadZipFile("a local header is missing")
    return header + _LOCAL_HEADER + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")


def _damaged(archive: SourceFile, below: Path, detail: str, reason: str = "truncated") -> SourceFile:
    relative = below if below.parts else Path(archive.path.name)
    return SourceFile(archive.path, relative, refusal=(reason, detail))
