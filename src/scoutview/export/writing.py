"""One export: a folder with the model in one format and its card, complete and checked, or no folder at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scoutview.errors import UsageError
from scoutview.export.card import Loading, write_card
from scoutview.export.model import ExportModel
from scoutview.export.parity import Runner, check_parity
from scoutview.files import sync


@dataclass(frozen=True)
class Format:
    """What a format must know.

    file: the name of the model's file. tool: who loads it back. usage: how that is done, Markdown. write: the files of
    a model into an empty folder. load: them again, with nothing but the files and the other tool.
    """

    file: str
    tool: str
    usage: str
    write: Callable[[ExportModel, Path], None]
    load: Callable[[Path], Runner]


def export_model(model: ExportModel, form: Format, out: Path) -> float:
    """Write a model and its card into a new folder; return the largest difference of `check_parity`.

    Raises:
        UsageError: if `out` is there and not empty.
        RunError: if what was written does not say what the network says.
    """
    with new_folder(out) as folder:
        form.write(model, folder)
        difference = check_parity(model, form.load(folder), form.tool)
        write_card(model, Loading(form.file, form.tool, form.usage, difference), folder / "README.md")
    return difference


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; on success fsync what it holds and rename it, on an error remove it.

    Raises:
        UsageError: if `out` is there and not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty: give another --out, or remove it")
    temporary = out.with_name(f".{out.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed export
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        temporary.replace(out)
        sync(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
