"""A search of a store for anything that the headers of its source files say about a person.

Every text of the headers is looked for: names, numbers, dates, descriptions, UIDs, private elements. Left out are
the values that many files share: code strings, and UIDs and terms of the standard itself. Numbers in the store's
numeric columns and the content of the pixels are not searched.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pydicom

from scoutview.errors import RunError, UsageError
from scoutview.ingest.archives import unpacked
from scoutview.ingest.content import content_of
from scoutview.ingest.dicom_header import BODY_PARTS, VIEWS
from scoutview.ingest.discovery import discover
from scoutview.ingest.files import SourceFile, check_place, sniff
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.vocabulary import VENDORS
from scoutview.store.catalog import read_parquet

SEARCHED_VRS = frozenset(["AE", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UN", "UR", "UT"])
SHORTEST = 3
"""Characters; initials and single digits are everywhere."""
SUBSTRING, SUBSTRING_OF_DIGITS = 6, 10
"""Characters from which a value is also found within a longer text; digits alone are common in numbers."""
MOST_WORDS, RUN = 12, 3
"""Of a longer text every run of three words is looked for."""

_WORD = re.compile(r"[^\W_]+")
_PRINTABLE = re.compile(rb"[\x20-\x7e]{6,}")
_KEYS = re.compile(r"[0-9a-f]{16,}")
"""Keyed hashes and checksums: eight digits within them are chance."""
_TERMS = " ".join((*BODY_PARTS, *VIEWS, *VENDORS, "unknown none anonymous male female"))
_COMMON = frozenset(_TERMS.lower().split())


@dataclass(frozen=True)
class Finding:
    """A header value that a store holds. element: its keyword or tag; file: of the store; the value is not shown."""

    element: str
    file: str


@dataclass(frozen=True)
class PrivacyReport:
    """headers: files that were read; values: different texts looked for; bytes: of the store, searched."""

    headers: int
    values: int
    bytes: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Values:
    """Words -> element; joined: the words without blanks, of values that are looked for within texts; by length."""

    words: dict[tuple[str, ...], str]
    joined: dict[str, str]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, words: dict[tuple[str, ...], str]) -> _Values:
        joined = {}
        for parts, element in words.items():
            text = "".join(parts)
            if len(text) >= (SUBSTRING_OF_DIGITS if text.isdecimal() else SUBSTRING):
                joined[text] = element
        return cls(words, joined, tuple(sorted({len(text) for text in joined})))


def search_store(store: Path, sources: Sequence[Path | str]) -> PrivacyReport:
    """Look in every file of a store for every text of the DICOM headers below `sources`.

    Raises:
        UsageError: no DICOM file among the sources.
        RunError: a file of the store cannot be read.
    """
    words_of: dict[tuple[str, ...], str] = {}
    headers = 0
    with TemporaryDirectory() as scratch, unpacked(discover(sources, excluded=store), Path(scratch) / "tar") as files:
        for file in files:
            found = _texts_of(file)
            headers += found is not None
            for element, text in found or ():
                for words in _looked_for(text):
                    words_of.setdefault(words, element)
    if not headers:
        raise UsageError(f"{', '.join(map(str, sources))} holds no DICOM file: give the files that were taken")
    values = _Values.of(words_of)
    findings: dict[Finding, None] = {}
    size = 0
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        size += path.stat().st_size
        try:
            for element in _found_in(path, values):
                findings.setdefault(Finding(element, path.relative_to(store).as_posix()))
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error}): run scoutview fsck {store}") from error
    return PrivacyReport(headers, len(values.words), size, tuple(findings))


def _texts_of(file: SourceFile) -> list[tuple[str, str]] | None:
    """(element, text) of every text element of a DICOM file; None when it is none."""
    try:
        check_place(file)
        with content_of(file) as path, warnings.catch_warnings():
            if sniff(path) != "dicom":
                return None
            warnings.simplefilter("ignore")
            return list(_texts_in(pydicom.dcmread(path, stop_before_pixels=True)))
    except (RefusedError, OSError):
        return None
    except Exception:  # a malformed header has no values to speak of
        return None


def _texts_in(dataset: Any) -> Iterator[tuple[str, str]]:
    for tag in dataset.keys():  # noqa: SIM118 - a Dataset iterates over elements, and converts each
        try:
            element = dataset[tag]
        except Exception:
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _texts_in(item)
        elif element.VR in SEARCHED_VRS and element.value:
            for value in element.value if isinstance(element.value, pydicom.multival.MultiValue) else [element.value]:
                text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                yield element.keyword or str(tag), text


def _looked_for(text: str) -> Iterator[tuple[str, ...]]:
    """A text as its words, and each part of a name by itself; nothing for what the standard itself says."""
    if text.startswith("1.2.840.10008."):
        return
    parts = [text, *(text.split("^") if "^" in text else [])]
    for part in parts:
        words = tuple(word.lower() for word in _WORD.findall(part))
        long = len(words) > MOST_WORDS
        for run in (words[begin : begin + RUN] for begin in range(len(words) - RUN + 1)) if long else (words,):
            if sum(map(len, run)) >= SHORTEST and not set(run) <= _COMMON:
                yield run


def _found_in(path: Path, values: _Values) -> Iterator[str]:
    """The elements whose values a file of the store holds."""
    if path.suffix == ".parquet":
        yield from _in_texts(_parquet_texts(path), values)
    elif path.suffix == ".tar":
        yield from _in_bytes(path, values)
    else:
        yield from _in_texts([path.read_bytes().decode("utf-8", "replace")], values)
    yield from _in_texts([path.name], values)


def _parquet_texts(path: Path) -> Iterator[str]:
    """Every different text of every column, and the metadata."""
    table = read_parquet(path)
    for name, column in zip(table.column_names, table.columns, strict=True):
        yield name
        if str(column.type) == "string":
            yield from (text for text in column.unique().to_pylist() if text)
    for metadata in (table.schema.metadata or {}).items():
        yield from (part.decode("latin-1") for part in metadata)


def _in_texts(texts: Iterable[str], values: _Values) -> Iterator[str]:
    """Elements whose values occur as whole words, or within a longer text when they are long enough."""
    for text in texts:
        words = [word.lower() for word in _WORD.findall(text)]
        for begin in range(len(words)):
            for end in range(begin + 1, min(begin + MOST_WORDS, len(words)) + 1):
                element = values.words.get(tuple(words[begin:end]))
                if element:
                    yield element
        yield from _within("".join(_WORD.findall(_KEYS.sub(" ", text.lower()))), values)


def _within(text: str, values: _Values) -> Iterator[str]:
    for length in values.lengths:
        for begin in range(len(text) - length + 1):
            element = values.joined.get(text[begin : begin + length])
            if element:
                yield element


def _in_bytes(path: Path, values: _Values) -> Iterator[str]:
    """Values that occur between the printable bytes of a shard: in tar headers, comments, or by a leak of memory."""
    with path.open("rb") as stream:
        tail = b""
        while block := stream.read(2**22):
            data = tail + block
            yield from _in_texts((match.group().decode("ascii") for match in _PRINTABLE.finditer(data)), values)
            tail = data[-256:]
