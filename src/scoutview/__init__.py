"""scoutview: from an archive of unlabelled medical images to an encoder, with an honest report.

Each command of the command line is the function of the same name here; the commands are loaded when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.0.1"

COMMANDS = (
    "demo",
    "ingest",
    "label",
    "inspect",
    "pretrain",
    "embed",
    "probe",
    "finetune",
    "evaluate",
    "fsck",
)

__all__ = ["COMMANDS", "__version__", *COMMANDS]


def __getattr__(name: str) -> Any:
    if name in COMMANDS:
        return getattr(import_module(f"scoutview.commands.{name}"), name)
    raise AttributeError(f"module 'scoutview' has no attribute {name!r}")
