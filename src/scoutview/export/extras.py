"""Packages that only some formats need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from scoutview.errors import UsageError


def needed(package: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UsageError(f"{package} is not installed: pip install 'scoutview[{extra}]'") from error
