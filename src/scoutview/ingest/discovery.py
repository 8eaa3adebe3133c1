"""Which files the sources hold: folders, files, archives, what a DICOMDIR lists, buckets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.ingest.archives import archive_kind, members_of_tar, members_of_zip
from scoutview.ingest.dicomdir import is_dicomdir, listed_in
from scoutview.ingest.files import SourceFile
from scoutview.objects import is_url, objects_in


def discover(sources: Sequence[Path | str], excluded: Path) -> list[SourceFile]:
    """Every file of the sources, sorted within each, once; whatever lies in the folder `excluded` is left out.

    Archives are opened, but archives within archives are not. Links are listed and not followed; so are hidden
    files. A source that is a file is listed under its name. Objects of a bucket are listed below the prefix.

    Raises:
        UsageError: if a source does not exist, cannot be read, lies in `excluded`, or holds no file.
    """
    found: dict[str, SourceFile] = {}
    excluded = excluded.resolve()
    for source in sources:
        number = 0
        for file in _objects(str(source)) if is_url(str(source)) else _files(Path(source), excluded):
            number += 1
            found.setdefault(file.name, file)
        if number == 0:
            raise UsageError(f"{source} holds no file: give a folder with images")
    return list(found.values())


def _files(source: Path, excluded: Path) -> Iterable[SourceFile]:
    root = source.resolve()
    if not root.exists():
        raise UsageError(f"{source} does not exist: give files or folders of images")
    if root == excluded or excluded in root.parents:
        raise UsageError(f"{source} is (in) the store itself: give the folder of the original files")
    if not os.access(root, os.R_OK | (os.X_OK if root.is_dir() else 0)):
        raise UsageError(f"{source} cannot be read: check its permissions")
    if root.is_dir():
        return _below(root, excluded)
    if is_dicomdir(root):
        return listed_in(root)
    return _expanded(SourceFile(root, Path(root.name)), Path())


def _below(root: Path, excluded: Path) -> Iterator[SourceFile]:
    for path in _walk(root, excluded):
        relative = path.relative_to(root) if path != root else Path(path.name)
        yield from _expanded(SourceFile(path, relative), relative)


def _expanded(file: SourceFile, below: Path) -> Iterable[SourceFile]:
    """The members of an archive, whose relative paths begin with `below`, or the file itself."""
    kind = archive_kind(file.path)
    if kind == "zip":
        return members_of_zip(file, below)
    if kind == "tar":
        return members_of_tar(file, below)
    return [SourceFile(file.path, below, compressed=True) if kind == "compressed tar" else file]


def _objects(url: str) -> Iterator[SourceFile]:
    for item in objects_in(url):
        yield SourceFile(Path(item.name), Path(item.relative), stamp=item.stamp, url=item.url)


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
