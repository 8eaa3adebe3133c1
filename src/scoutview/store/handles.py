"""Open files of shards, so that a read costs one system call; at most so many at a time, the least used go first."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from pathlib import Path
from threading import Lock

MOST_OPEN = 256
"""Below the usual limit of 1024 for a process."""


class _File:
    """An open file that closes when nobody holds it any longer, so that no reader loses it to another thread."""

    def __init__(self, path: str) -> None:
        # Not to wait for the writer of a pipe that lies in a shard's place.
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", path)
        self.size = status.st_size

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Handles:
    """Files by path, opened when first read. Another process starts with none."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self.most = most
        self.files: OrderedDict[str, _File] = OrderedDict()
        self.lock = Lock()

    def __reduce__(self) -> tuple[type[Handles], tuple[int]]:
        return Handles, (self.most,)

    def read(self, path: str | Path, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on; fewer where the file ends.

        Raises:
            OSError: if the file cannot be opened or read.
        """
        file = self._file(str(path))
        # Room is made for all that is asked for, which may be more than there is.
        return os.pread(file.descriptor, max(0, min(length, file.size - offset)), offset)

    def _file(self, path: str) -> _File:
        with self.lock:
            file = self.files.get(path)
            if file is None:
                file = self.files[path] = _File(path)
                if len(self.files) > self.most:
                    self.files.popitem(last=False)
            else:
                self.files.move_to_end(path)
            return file
