"""Tables and XML files as public data sets ship them: CSV, perhaps gzipped, with headers that need care."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree

from scoutview.errors import UsageError

LARGEST_XML = 64 * 2**20
MOST_NAMES = 40
"""Of open vocabularies only the most frequent findings become labels: each costs a row for every image."""


@dataclass(frozen=True)
class TableRow:
    """where: "file row 12". cells: column -> text, both stripped. rest: all cells in order, for odd headers."""

    where: str
    cells: Mapping[str, str]
    rest: Sequence[str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def get(self, column: str) -> str:
        """The text of a column, "" where the table has no such column."""
        return self.cells.get(column, "")


def read_table(path: Path, needed: Sequence[str] = ()) -> Iterator[TableRow]:
    """The rows of a comma separated file, UTF-8, perhaps with a byte order mark, perhaps gzipped; blank ones left out.

    Raises:
        UsageError: it cannot be read, is no such table, or has not the columns that are needed.
    """
    try:
        with _opened(path) as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in needed if name not in header]
            if missing:
                raise UsageError(
                    f"{path} has no column {missing[0]!r} (it has {', '.join(header[:12])}): "
                    "it is not the label file of this layout; name another layout, or restore the original file"
                )
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if any(stripped):
                    where = f"{path.name} row {reader.line_num}"
                    yield TableRow(where, dict(zip(header, stripped, strict=False)), stripped)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"the label file {path} cannot be read ({error}): restore it from a copy") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}): restore the original file") from error
    except csv.Error as error:
        raise UsageError(f"{path} is not a well-formed CSV file ({error}): restore the original file") from error


def header_of(path: Path) -> list[str]:
    """The column names of a table, [] where there is none that can be read."""
    try:
        with _opened(path) as stream:
            return [name.strip() for name in next(csv.reader(stream), [])]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error):
        return []


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def first_of(folder: Path, *patterns: str) -> Path | None:
    """The first file of the folder that a pattern matches, by pattern and then by name."""
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def required(folder: Path, *patterns: str) -> Path:
    """As `first_of`.

    Raises:
        UsageError: when there is none.
    """
    path = first_of(folder, *patterns)
    if path is None:
        raise UsageError(f"{folder} has no {' or '.join(patterns)}: give the folder that holds the label files")
    return path


def number_of(text: str, where: str, column: str) -> float:
    """A number.

    Raises:
        UsageError: when the text is none.
    """
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{where}: {column} {text!r} is no number: restore the original file") from error


def most_frequent(names: Iterable[str]) -> list[str]:
    """The 40 names that occur most often, the alphabetically first of equals, in alphabetical order."""
    counts = Counter(names)
    return sorted(sorted(counts, key=lambda name: (-counts[name], name))[:MOST_NAMES])


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, stripped, blank ones as "".

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): restore it") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}): restore the original file") from error


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file, every tag without its namespace.

    Raises:
        UsageError: it cannot be read or is not well formed.
    """
    try:
        if path.stat().st_size > LARGEST_XML:
            raise UsageError(f"{path} has more than {LARGEST_XML >> 20} MB: it is no annotation file; remove it")
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except ElementTree.ParseError as error:
        raise UsageError(f"{path} is not well-formed XML ({error}): restore the original file") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(element: ElementTree.Element, tag: str) -> str:
    """The text of the first such child, stripped, "" where there is none."""
    return (element.findtext(tag) or "").strip()
