"""How far long work is and how long it will take: a bar on a terminal, elsewhere a plain line per tenth, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def counted(items: Sequence[Item], name: str, show: Callable[[str], None] | None = None) -> Iterator[Item]:
    """The items, one after the other, while it is shown how many of them are through.

    name: what they are, such as "images". show: takes the plain lines instead of stderr, and there is no bar.
    """
    console = Console(stderr=True)
    if console.is_terminal and show is None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(name, total=len(items))
            for item in items:
                yield item
                bar.advance(task)
        return
    began = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if done * 10 // len(items) > (done - 1) * 10 // len(items) and len(items) > 1:
            line = f"{done} of {len(items)} {name}{left(time.monotonic() - began, done, len(items))}"
            (show or _say)(line)


def left(seconds: float, done: int, total: int) -> str:
    """ ", 3.2 min left" when `done` of `total` took so many seconds; nothing at the beginning and at the end."""
    return f", {(total - done) * seconds / done / 60:.1f} min left" if 0 < done < total else ""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
