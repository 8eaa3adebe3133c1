"""Which files a source holds, and what they are by their first bytes; a suffix is never believed."""

from __future__ import annotations

import gzip
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scoutview.errors import UsageError
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
class SourceFile:
    """One file below a source. `relative` is what its path key is made of: it does not depend on the machine."""

    path: Path
    relative: Path


def discover(sources: list[Path], excluded: Path) -> list[SourceFile]:
    """Every file of the sources, sorted within each, once; whatever lies in the folder `excluded` is left out.

    Links are listed and not followed; so are hidden files. A source that is a file is listed under its name.

    Raises:
        UsageError: if a source does not exist, cannot be read, lies in `excluded`, or holds no file.
    """
    found: dict[Path, SourceFile] = {}
    excluded = excluded.resolve()
    for source in sources:
        root = source.resolve()
        if not root.exists():
            raise UsageError(f"{source} does not exist: give files or folders of images")
        if root == excluded or excluded in root.parents:
            raise UsageError(f"{source} is (in) the store itself: give the folder of the original files")
        if not os.access(root, os.R_OK | (os.X_OK if root.is_dir() else 0)):
            raise UsageError(f"{source} cannot be read: check its permissions")
        before = len(found)
        files = [root] if not root.is_dir() else _walk(root, excluded)
        number = 0
        for path in files:
            number += 1
            found.setdefault(path, SourceFile(path, path.relative_to(root) if path != root else Path(path.name)))
        if number == 0 and len(found) == before:
            raise UsageError(f"{source} holds no file: give a folder with images")
    return list(found.values())


def stamp_of(path: Path) -> str:
    """Size and time of change, which tell whether a file is still the one that was read; "" when it is gone.

    A time of change may be that of an examination: the store holds a keyed hash of it.
    """
    try:
        status = path.lstat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def sniff(file: SourceFile) -> Format:
    """What a file is.

    Raises:
        RefusedError: if it is nothing that this version reads.
    """
    if any(part.startswith(".") for part in file.relative.parts):
        raise RefusedError("hidden_file", "its name or its folder's begins with a dot")
    try:
        mode = file.path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise RefusedError("symlink", "a link is not followed")
        if stat.S_ISDIR(mode):
            raise RefusedError("unreadable", "a folder that cannot be listed")
        if not stat.S_ISREG(mode):
            raise RefusedError("not_a_file", "not a regular file")
        with file.path.open("rb") as stream:
            head = stream.read(600)
    except OSError as error:
        raise RefusedError("unreadable", os.strerror(error.errno or 0)) from error
    return _sniff_bytes(file.path, head)


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


def _walk(root: Path, excluded: Path) -> Iterator[Path]:
    """Files below `root`, depth first in the order of their names; unreadable folders are listed as files."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        yield root
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if path != excluded:
                yield from _walk(path, excluded)
        else:
            yield path
