"""Memory of a process that takes and frees the same large pieces over and over."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of glibc's mallopt."""


def keep_freed_memory() -> bool:
    """Have the allocator keep what is freed instead of giving it back; whether it can (glibc only).

    glibc gives large pieces back to the system and takes them anew, a page fault per 4 KB, which costs a part of every
    training step on a CPU. The process then stays as large as it once was.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        return bool(library.mallopt(_TRIM_THRESHOLD, 2**31 - 1) and library.mallopt(_MMAP_MAX, 0))
    except (AttributeError, OSError):
        return False
