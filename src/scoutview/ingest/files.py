"""A file of a source: where it lies, and what it is by its first bytes; a suffix is never believed."""

from __future__ import annotations

import gzip
import os
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scoutview.ingest.refusals import RefusedError

Format = Literal["dicom", "nifti", "metaimage", "nrrd", "picture", "npz"]

_ARCHIVES = (
    b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!",
    b"\x28\xb5\x2f\xfd",
)  # fmt: skip
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSUPPORTED = (
    b"\x93NUMPY", b"BM", b"GIF8", b"\x89HDF", b"\0\0\0\x0cjP  ", b"\xffO\xffQ",
)  # fmt: skip
_METAIMAGE = (b"ObjectType", b"NDims")


@dataclass(frozen=True)
class Part:
    """Bytes of an archive that are a file: from `begin`, `packed` of them, `nbytes` once they are unpacked.

    deflated: whether they are packed (RFC 1951). crc32: of the unpacked bytes, None where the archive has none.
    """

    begin: int
    packed: int
    nbytes: int
    deflated: bool = False
    crc32: int | None = None


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `relative` is what its path key is made of: it does not depend on the machine.

    path: of the file, or of the archive of which it is a `part`; an object of a bucket has a `url` instead.
    known_as: what tells it from other files where that is not its path. stamp: what changes with its content where
    the file system does not say. compressed: a packed tar file, whose members are listed when it is unpacked, below
    `relative`.
    refusal: (reason, detail) when it is refused for where it lies.
    """

    path: Path
    relative: Path
    known_as: str = ""
    stamp: str = ""
    part: Part | None = None
    url: str = ""
    compressed: bool = False
    refusal: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """Where it lies, in one text that no other file has."""
        return self.known_as or self.url or str(self.path)


def stamp_of(file: SourceFile) -> str:
    """Size and time of change, which tell whether a file is still the one that was read; "" when it is gone.

    A time of change may be that of an examination: the store holds a keyed hash of it.
    """
    if file.stamp:
        return file.stamp
    try:
        status = file.path.lstat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def check_place(file: SourceFile) -> None:
    """Refuse what is no file to be read, before it is opened.

    Raises:
        RefusedError: hidden_file, symlink, not_a_file, unreadable, or what the listing of its archive found.
    """
    if file.refusal is not None:
        raise RefusedError(*file.refusal)
    if any(part.startswith(".") for part in file.relative.parts):
        raise RefusedError("hidden_file", "its name or its folder's begins with a dot")
    if file.part is not None or file.url:
        return
    try:
        mode = file.path.lstat().st_mode
    except OSError as error:
        raise RefusedError("unreadable", os.strerror(error.errno or 0)) from error
    if stat.S_ISLNK(mode):
        raise RefusedError("symlink", "a link is not followed")
    if stat.S_ISDIR(mode):
        raise RefusedError("unreadable", "a folder that cannot be listed")
    if not stat.S_ISREG(mode):
        raise RefusedError("not_a_file", "not a regular file")


def sniff(path: Path) -> Format:
    """What a file is.

    Raises:
        RefusedError: if it is nothing that this version reads.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(600)
    except OSError as error:
        raise RefusedError("unreadable", os.strerror(error.errno or 0)) from error
    return _sniff_bytes(path, head)


def _sniff_bytes(path: Path, head: bytes) -> Format:
    if not head:
        raise RefusedError("empty_file", "zero bytes")
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(_PICTURES):
        return "picture"
    if _is_nifti(head):
        return "nifti"
    if head.startswith(_METAIMAGE):
        return "metaimage"
    if head.startswith(b"NRRD000"):
        return "nrrd"
    if head.startswith(b"\x1f\x8b"):
        return _sniff_gzip(path)
    if head.startswith(b"PK\x03\x04"):
        return _sniff_zip(path)
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        raise RefusedError("archive", "a packed file")
    if head.startswith(_UNSUPPORTED):
        raise RefusedError("unsupported_format", "a format that this version does not read")
    if _is_bare_dicom(head):
        raise RefusedError("no_preamble", "DICOM elements without the preamble and file meta group of Part 10")
    raise RefusedError("not_an_image", "unknown content")


def _is_nifti(head: bytes) -> bool:
    return (head[344:348] in (b"n+1\0", b"ni1\0") and 348 in _both_orders(head)) or head[4:8] in (b"n+2\0", b"ni2\0")


def _both_orders(head: bytes) -> tuple[int, int]:
    return int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")


def _sniff_gzip(path: Path) -> Format:
    try:
        with gzip.open(path) as stream:
            head = stream.read(600)
    except EOFError as error:
        raise RefusedError("truncated", "the compressed data end early") from error
    except (OSError, zlib.error) as error:
        raise RefusedError("decode_error", "damaged gzip data") from error
    if _is_nifti(head):
        return "nifti"
    raise RefusedError("archive", "a packed file")


def _sniff_zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise RefusedError("truncated", "the zip directory at its end is missing or damaged") from error
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise RefusedError("archive", "a packed file")


def _is_bare_dicom(head: bytes) -> bool:
    """Group 0002 or 0008 first, with an explicit VR or a short implicit length: DICOM without its preamble."""
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group = int.from_bytes(head[0:2], order)
        element = int.from_bytes(head[2:4], order)
        length = int.from_bytes(head[4:8], order)
        if group in (0x0002, 0x0008) and element <= 0x2000 and (head[4:6].isupper() or length <= 4096):
            return True
    return False
