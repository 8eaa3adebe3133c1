"""The index: what a training needs of each image, in memory-mapped files that all ranks and loaders of a node share.

It is derived from the catalog, and 10^8 images of it cost no memory but the page cache. Images are sorted by modality,
then by the first appearance of their series in the catalog, so that the images of a series lie together. Ingest writes
the slices of a volume together, so this is mostly the order on disk.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoutview.errors import RunError
from scoutview.images.types import LARGEST_AREA
from scoutview.store.seal import checksum_fits

INDEX_VERSION = 2
SPLITS = ("train", "validation", "test")
"""In the order of their numbers in the index."""

RECORD = np.dtype(
    [
        ("spectrum_offset", "<u8"),
        ("offset_in_shard", "<u8"),
        ("slope", "<f8"),
        ("offset", "<f8"),
        ("shard", "<u4"),
        ("place", "<u4"),
        ("nbytes", "<u4"),
        ("crc32", "<u4"),
        ("prefix_nbytes_2", "<u4"),
        ("prefix_nbytes_4", "<u4"),
        ("prefix_nbytes_8", "<u4"),
        ("prefix_crc32_2", "<u4"),
        ("prefix_crc32_4", "<u4"),
        ("prefix_crc32_8", "<u4"),
        ("spectrum_nbytes", "<u4"),
        ("spectrum_crc32", "<u4"),
        ("rows", "<u4"),
        ("columns", "<u4"),
        # Extremes and percentiles are values of int16 pixels, which float32 holds exactly.
        ("minimum", "<f4"),
        ("low", "<f4"),
        ("high", "<f4"),
        ("maximum", "<f4"),
        ("units", "<u2"),
        ("spectrum_preprocessing", "<u2"),
        ("checksum", "<u4"),
    ]
)
"""One image. shard, units, spectrum_preprocessing: numbers in the tables of the index; place: counts the images of the
shard; checksum: crc32 of the bytes before it; the others: see `ImageRow`."""

CHECKED = RECORD.itemsize - 4
_NAMES = RECORD.names or ()
_CODES = {"u8": "Q", "u4": "I", "u2": "H", "f8": "d", "f4": "f"}
_RECORD = struct.Struct("<" + "".join(_CODES[RECORD[name].str[1:]] for name in _NAMES))
COLUMNS: dict[str, np.dtype[Any]] = {
    "series": np.dtype("<u4"),
    "split": np.dtype("u1"),
    "image": np.dtype("<u8"),
    "row": np.dtype("<u4"),
}
"""series: number of the series in its modality, ascending; split: number in SPLITS; image: `text_hash` of its id;
row: number of its row in the merged catalog."""


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What reading and preprocessing need of an image; the fields are those of `ImageRow`, and `place` in the shard."""

    modality: str
    shard: str
    place: int
    spectrum_offset: int
    offset_in_shard: int
    nbytes: int
    crc32: int
    prefix_nbytes_2: int
    prefix_nbytes_4: int
    prefix_nbytes_8: int
    prefix_crc32_2: int
    prefix_crc32_4: int
    prefix_crc32_8: int
    spectrum_nbytes: int
    spectrum_crc32: int
    spectrum_preprocessing: str
    rows: int
    columns: int
    slope: float
    offset: float
    units: str
    minimum: float
    low: float
    high: float
    maximum: float


@dataclass(frozen=True)
class StoreIndex:
    """An index on disk. Files are mapped when first used, and mapped anew in a process that it is sent to.

    ranges: modality -> (first, one behind the last) of its images. texts: table name -> its texts.
    """

    folder: Path
    ranges: dict[str, tuple[int, int]]
    texts: dict[str, tuple[str, ...]]
    checksums: dict[str, int]
    shard_width: int

    @classmethod
    def open(cls, folder: Path) -> StoreIndex:
        """Open an index.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError: if it is damaged or not ours.
        """
        content = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("index.json is no mapping")
        if content["version"] != INDEX_VERSION:
            raise ValueError(f"version {content['version']}")
        if not checksum_fits(content):
            raise ValueError("its checksum differs from what was written")
        ranges = {name: (int(first), int(last)) for name, (first, last) in content["ranges"].items()}
        texts = {name: tuple(values) for name, values in content["texts"].items()}
        index = cls(folder, ranges, texts, content["checksums"], content["shard_width"])
        for name, kind in {"records": RECORD, **COLUMNS}.items():
            if (folder / f"{name}.bin").stat().st_size != len(index) * kind.itemsize:
                raise ValueError(f"{name}.bin has another size")
        return index

    def __len__(self) -> int:
        return max((last for _, last in self.ranges.values()), default=0)

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files."""
        return {name: self.__dict__[name] for name in ("folder", "ranges", "texts", "checksums", "shard_width")}

    @cached_property
    def records(self) -> Any:
        """RECORD [image]; each carries its own checksum, so that opening reads none of them."""
        return self._map("records", RECORD)

    @cached_property
    def _lines(self) -> memoryview:
        """The bytes of `records`: an array of structures takes ten times as long to get one from."""
        return np.asarray(self.records).view(np.uint8).data

    @cached_property
    def series(self) -> Any:
        """Number of the series, uint32 [image]."""
        return self._checked("series")

    @cached_property
    def split(self) -> Any:
        """Number in SPLITS, uint8 [image], as ingest set it."""
        return self._checked("split")

    @cached_property
    def image(self) -> Any:
        """`text_hash` of the image id, uint64 [image]."""
        return self._checked("image")

    @cached_property
    def row_number(self) -> Any:
        """Number of the row in the merged catalog, uint32 [image]."""
        return self._checked("row")

    @cached_property
    def shards(self) -> Any:
        """File names of the shards, by their number."""
        names = np.fromfile(self.folder / "shards.bin", dtype=np.uint8)
        if crc_of(names) != self.checksums["shards"]:
            raise self._damaged("shards")
        return names.view(f"S{self.shard_width}")

    def row(self, number: int) -> IndexRow:
        """Image `number`.

        Raises:
            RunError: if the index is damaged there.
        """
        record = self._lines[number * RECORD.itemsize : (number + 1) * RECORD.itemsize]
        values = dict(zip(_NAMES, _RECORD.unpack(record), strict=True))
        if zlib.crc32(record[:CHECKED]) != values.pop("checksum"):
            raise self._damaged("records")
        if not 0 < values["rows"] * values["columns"] <= LARGEST_AREA:
            raise self._damaged("records")
        modality = next(name for name, (first, last) in self.ranges.items() if first <= number < last)
        try:
            values["units"] = self.texts["units"][values["units"]]
            values["spectrum_preprocessing"] = self.texts["spectrum_preprocessing"][values["spectrum_preprocessing"]]
            values["shard"] = self.shards[values["shard"]].decode()
        except (KeyError, IndexError, UnicodeDecodeError) as error:
            raise self._damaged("records") from error
        return IndexRow(modality=modality, **values)

    def _map(self, name: str, kind: np.dtype[Any]) -> Any:
        return np.memmap(self.folder / f"{name}.bin", dtype=kind, mode="r")

    def _checked(self, name: str) -> Any:
        column = self._map(name, COLUMNS[name])
        if crc_of(column) != self.checksums[name]:
            raise self._damaged(name)
        return column

    def _damaged(self, name: str) -> RunError:
        return RunError(
            f"{self.folder}/{name}.bin is damaged: remove {self.folder}, and it is made again from the catalog"
        )


def crc_of(column: npt.NDArray[Any], first: int = 0, step: int = 2**24) -> int:
    """crc32 of the bytes of an array, read in pieces."""
    crc = 0
    for begin in range(first, len(column), step):
        crc = zlib.crc32(np.ascontiguousarray(column[begin : begin + step]).data, crc)
    return crc


_WIDTH = 64
_PADDING = np.frombuffer(b" " * 8, dtype="<u8")[0]


def text_hash(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64-bit hashes [text] of texts of at most 64 bytes: the finalizer of splitmix64 over their words of 8 bytes.

    Raises:
        ValueError: if a text is longer.
    """
    encoded = [text.encode().ljust(_WIDTH) for text in texts]
    return bytes_hash(b"".join(encoded), len(encoded))


def bytes_hash(padded: bytes | memoryview, count: int) -> npt.NDArray[np.uint64]:
    """`text_hash` of texts that lie one after the other, padded with blanks to 64 bytes each."""
    words = np.frombuffer(padded, dtype="<u8")
    if len(words) != count * _WIDTH // 8:
        raise ValueError(f"ids and keys have at most {_WIDTH} bytes")
    state = np.full(count, 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in words.reshape(count, _WIDTH // 8).T:
        if not (used := column != _PADDING).any():
            break
        mixed = state ^ column
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = np.where(used, mixed ^ (mixed >> np.uint64(31)), state)
    return state
