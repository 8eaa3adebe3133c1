"""Filling a page: templates of this room, the style inlined, one file written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from scoutview.files import write_text


@dataclass(frozen=True)
class Table:
    """Headers, rows of text whose first cell names the row, and a caption."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def fill(template: str, path: Path, **content: Any) -> Path:
    """Write the page that `template` makes of `content` to `path`, atomically."""
    environment = Environment(
        loader=FunctionLoader(read_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(style=Markup(read_part("style.css")), **content)
    # A lone surrogate, which JSON may hold, cannot be written as UTF-8.
    write_text(path, page.encode("utf-8", errors="replace").decode("utf-8"))
    return path


def read_part(name: str) -> str:
    """A template, style or script of this room."""
    return files("scoutview.report").joinpath(name).read_text(encoding="utf-8")
