"""Pictures of refused files for the page of `scoutview inspect`, where they can be shown and name nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from scoutview.commands.refused_files import Opened, open_pictures
from scoutview.commands.store_tables import rows_of_query
from scoutview.errors import RunError
from scoutview.ingest.pool import Processes
from scoutview.report import Sheet, Thumbnail, Tile
from scoutview.report.thumbnails import thumbnail
from scoutview.report.wording import counted

PRIVATE = ("burned_in", "secondary_capture", "text_unknown")
"""Reasons whose files may name a patient in their pixels: they are never opened."""
PICTURELESS = (
    "archive", "constant", "empty_file", "encrypted", "killed_the_reader", "missing_file", "no_pixels", "not_a_file",
    "not_an_image", "symlink", "too_large", "unreadable", "unsafe_path", "unsupported_format",
)  # fmt: skip
"""Reasons whose files hold no picture, or none that can be shown."""
PICTURES = 8
"""Files of a reason that are opened for a picture."""

# Files with different details first.
_EXAMPLES = """
WITH numbered AS (
    SELECT reason, path, detail, row_number() OVER (PARTITION BY reason, detail ORDER BY path) AS place FROM refused
)
SELECT reason, path, detail FROM numbered WHERE place <= {most}
QUALIFY row_number() OVER (PARTITION BY reason ORDER BY place, path) <= {most} ORDER BY reason, place, path
"""

_UNSHOWN = "No picture: text in the pixels of these files may name a patient."


def refused_examples(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[str, str]]]:
    """reason -> (path, detail) of up to 8 files, from the tables of `tables_of`."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows_of_query(connection, _EXAMPLES.format(most=PICTURES)):
        found.setdefault(row["reason"], []).append((row["path"], row["detail"]))
    return found


def refused_sheets(examples: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Sheet]:
    """reason -> pictures of these files, where they can be shown and name nobody; never fails.

    Files of the reasons in `PRIVATE` and `PICTURELESS` are not opened. Of the others none is shown whose header says
    that it is a screen or has text burned in, nor ultrasound whose text cannot be masked.
    """
    sheets = {reason: Sheet((), (_UNSHOWN,)) for reason in examples if reason in PRIVATE}
    shown = {reason: files for reason, files in examples.items() if reason not in (*PRIVATE, *PICTURELESS)}
    asked = [path for files in shown.values() for path, _ in files]
    try:
        with Processes(1) as processes:
            results = iter(list(processes(asked, open_pictures, _died, 1)))
    except RunError:  # no reason to end without a page
        results = iter([(None, "lacked a process to be opened in")] * len(asked))
    for reason, files in shown.items():
        opened = [next(results) for _ in files]
        tiles = [
            Tile((Thumbnail(thumbnail(picture / 255), f"refused as {reason}"),), (Path(path).name,))
            for (path, _), (picture, _) in zip(files, opened, strict=True)
            if picture is not None
        ]
        sheets[reason] = Sheet(tiles, _note(Counter(problem for _, problem in opened if problem), len(files)))
    return sheets


def _note(problems: Counter[str], tried: int) -> tuple[str, ...]:
    if not problems:
        return ()
    told = "; ".join(f"{number} {problem}" for problem, number in problems.items())
    return (f"Not shown: {sum(problems.values())} of {counted(tried, 'file')}: {told}.",)


def _died(_: str) -> Opened:
    return None, "ended the process that opened them"
