"""The two ways in which a command ends without its result.

Every message names the thing, the cause and the fix in one line: it is printed as it is.
"""

from __future__ import annotations


class UsageError(Exception):
    """Wrong use: an option, a file or a store that cannot be what the caller meant. Exit code 2."""


class RunError(Exception):
    """The work was well asked for and failed: damaged data, a full disk, a diverged loss. Exit code 1."""
