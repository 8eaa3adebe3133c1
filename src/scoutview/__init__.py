"""scoutview: from an archive of unlabelled medical images to an encoder, with an honest report.

Each command of the command line is the function of the same name here; a command is loaded when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoutview.commands.atlas import atlas
    from scoutview.commands.demo import demo
    from scoutview.commands.doctor import doctor
    from scoutview.commands.embed import embed
    from scoutview.commands.evaluate import evaluate
    from scoutview.commands.export import export
    from scoutview.commands.finetune import finetune
    from scoutview.commands.fsck import fsck
    from scoutview.commands.ingest import ingest
    from scoutview.commands.inspect import inspect
    from scoutview.commands.label import label
    from scoutview.commands.merge import merge
    from scoutview.commands.plan import plan
    from scoutview.commands.predict import predict
    from scoutview.commands.pretrain import pretrain
    from scoutview.commands.probe import probe
    from scoutview.commands.study import study

__version__ = "0.1.0"

COMMANDS = (
    "demo",
    "ingest",
    "label",
    "inspect",
    "merge",
    "plan",
    "pretrain",
    "embed",
    "probe",
    "finetune",
    "evaluate",
    "predict",
    "export",
    "study",
    "atlas",
    "fsck",
    "doctor",
)

__all__ = [
    "COMMANDS",
    "__version__",
    "atlas",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "fsck",
    "ingest",
    "inspect",
    "label",
    "merge",
    "plan",
    "predict",
    "pretrain",
    "probe",
    "study",
]


class _Package(ModuleType):
    """`scoutview.ingest` is the command, although importing the room `scoutview.ingest` would bind the room there."""

    def __getattribute__(self, name: str) -> Any:
        if name in COMMANDS:
            return getattr(import_module(f"scoutview.commands.{name}"), name)
        return super().__getattribute__(name)


sys.modules[__name__].__class__ = _Package
