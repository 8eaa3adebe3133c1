"""One byte of a small store flipped at a time: is it found before use, and if not, is everything as it was?

Ten thousand places are drawn, in each file in proportion to its length, but at least 200 (or all of it): shards,
catalog files, annotations, the quarantine list, store.json, the merged catalog and the index. After each flip
everything that may depend on the byte is read as training and evaluation read it: images at all resolutions through
index and catalog, spectra, preprocessing values, labels, splits, a filter. Flips of catalog files are tried twice,
with and without the derived files. The result is compared with that of the whole store; an error must be one of
scoutview's own.

Run: python benchmarks/flips.py [--flips 10000]
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from scoutview.batches import Archive, read_unit_image
from scoutview.batches.rows import rows_of_shard
from scoutview.errors import RunError, UsageError
from scoutview.images import MODALITIES, Image, encode_spectrum, radial_spectrum
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import (
    Annotation,
    Store,
    StoreWriter,
    add_annotations,
    make_record,
    mask_annotation,
    passing_rows,
    read_annotations,
)
from scoutview.store.codec import LEVELS
from scoutview.store.shards import Keys, shard_members

EACH = 3
LEAST = 200
FILTER = "modality <> 'us' and deviation > 10 and image in (select target from annotations where value = '1')"
PREPROCESSING = Preprocessing()


def write_store(path: Path) -> Store:
    """Three images of each modality with labels, a box, a mask, a split of its own, and a file that was not taken."""
    generator = np.random.default_rng(0)
    statements = []
    references: dict[str, Any] = {}
    with StoreWriter(path, "flips") as writer:
        for modality in MODALITIES:
            for number in range(EACH):
                smooth = np.cumsum(np.cumsum(generator.normal(0, 1, (56, 64)), 0), 1)
                image = Image(np.round(smooth + generator.normal(0, 9, smooth.shape)).astype(np.int16), modality)
                unit = preprocess(image.pixels, calibration_of(image), PREPROCESSING)
                name = hashlib.sha256(f"{modality}{number}".encode()).hexdigest()[:32]
                keys = Keys(name, name[::-1], name, f"series{number // 2}", name, name, name, "", "stamp", "train")
                record = make_record(image, keys, encode_spectrum(radial_spectrum(unit)), PREPROCESSING.identity())
                writer.add(record)
                statements.append(Annotation(name, "label", "finding", str(number % 2)))
            references[modality] = {"preprocessing": PREPROCESSING.identity(), "mean": [0.1] * 6}
        statements.append(Annotation(name, "box", "nodule", "1", 3.0, 4.0, 10.0, 12.0, "reader"))
        statements.append(mask_annotation(name, "lesion", smooth > smooth.mean(), "reader"))
        statements.append(Annotation(name, "split", "split", "test"))
        writer.quarantine("folder/file", "not_an_image", "text", "key", "stamp")
        writer.set_reference_energies(references)
    store = Store.open(path)
    add_annotations(store, statements)
    return store


def read_shard(path: Path, shard: str) -> Iterator[object]:
    """The images of one shard, through the index and through the catalog."""
    archive = Archive.open([path])
    for index in range(len(archive.rows)):
        store, row = archive.place(index)
        if row.shard == shard:
            for level in range(LEVELS + 1):
                yield store.read_record(row, level)[0].tobytes()
            yield store.read(archive.rows[index]).tobytes()
            yield repr(store.read_spectrum(row))


def read_tables(path: Path) -> Iterator[object]:
    """Everything that is not pixels, and the pixels as a network sees them."""
    archive = Archive.open([path])
    yield list(archive.rows)
    yield archive.stores[0].rows()
    yield sorted(archive.stores[0].reference_energies.items())
    yield archive.stores[0].salt_id
    yield archive.stores[0].quarantined()
    yield read_annotations(archive.stores[0])
    yield sorted((name, sorted(values.items())) for name, values in archive.labels.items())
    yield [part.tolist() for part in archive.splits]
    yield passing_rows(archive.stores[0], FILTER).tolist()
    for name, selection in archive.select().items():
        indices = selection.indices(0, len(selection))
        yield name, indices.tolist(), selection.series_of(indices).tolist()
    for index in range(len(archive.rows)):
        yield archive.place(index)[1]
        yield read_unit_image(archive, index, PREPROCESSING)[0].tobytes()


def digest(parts: Iterator[object]) -> str:
    """One text for all that was read, or the class of the error that ended it."""
    rows_of_shard.cache_clear()
    found = hashlib.sha256()
    try:
        for part in parts:
            found.update(repr(part).encode())
    except (RunError, UsageError):
        return "error"
    except Exception as error:
        return f"unclear {type(error).__name__}"
    return found.hexdigest()


def places_of(files: dict[Path, bytes], flips: int, generator: np.random.Generator) -> list[tuple[Path, int]]:
    """(file, byte) of each flip."""
    total = sum(map(len, files.values()))
    found = []
    for path, data in files.items():
        count = min(len(data), max(LEAST, round(flips * len(data) / total)))
        found += [(path, int(place)) for place in generator.choice(len(data), count, replace=False)]
    rest = max(flips - len(found), 0)
    more = generator.integers(0, total, rest)
    starts = np.cumsum([0, *map(len, files.values())])
    names = list(files)
    for place in more:
        number = int(np.searchsorted(starts, place, side="right")) - 1
        found.append((names[number], int(place - starts[number])))
    return found


def kind_of(path: Path, root: Path, place: int, data: bytes) -> str:
    """What the byte belongs to."""
    first = path.relative_to(root).parts[0]
    if path.suffix == ".tar":
        for name, offset, size in shard_members(path):
            if offset <= place < offset + size:
                return "rows in a shard" if name == "rows.parquet" else "image"
        return "tar header or padding"
    if path.suffix == ".parquet":
        footer = int.from_bytes(data[-8:-4], "little") + 8
        part = "page" if 4 <= place < len(data) - footer - 12 else "frame"
        if "merged" in path.parts:
            return "merged catalog"
        return f"{'annotation' if first == 'annotations' else first.removesuffix('.parquet')} {part}"
    return "index" if ".index" in str(path) else first


def main() -> None:
    """Print a table of what was flipped, then one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000)
    arguments = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        write_store(root)
        whole = {"tables": digest(read_tables(root))}
        files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock"}
        for path in files:
            if path.suffix == ".tar":
                whole[path.name] = digest(read_shard(root, path.name))
        places = places_of(files, arguments.flips, np.random.default_rng(0))
        for path, place in places:
            data = files[path]
            kind = kind_of(path, root, place, data)
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
            outcomes = []
            if path.suffix == ".tar":
                outcomes.append((digest(read_shard(root, path.name)), whole[path.name]))
            else:
                outcomes.append((digest(read_tables(root)), whole["tables"]))
                if kind.startswith("catalog"):
                    shutil.rmtree(root / "catalog" / "merged")
                    outcomes.append((digest(read_tables(root)), whole["tables"]))
            for outcome, expected in outcomes:
                if outcome == expected:
                    counts[kind, "the same"] += 1
                elif outcome == "error" or outcome.startswith("unclear"):
                    counts[kind, outcome] += 1
                else:
                    counts[kind, "wrong"] += 1
                    print(f"wrong: {path.relative_to(root)} byte {place} ({kind})", flush=True)
            restore(root, files)
    for kind, outcome in sorted(counts):
        print(f"{kind}: {outcome} {counts[kind, outcome]}")
    inside = ("image", "catalog page", "annotation page")
    undetected = sum(count for (kind, outcome), count in counts.items() if kind in inside and outcome == "the same")
    unclear = sum(count for (_, outcome), count in counts.items() if outcome.startswith("unclear"))
    print(f"flips: {len(places)} (bar: >= 10000)")
    print(f"wrong pixels or labels: {sum(n for (_, outcome), n in counts.items() if outcome == 'wrong')} (bar: 0)")
    print(f"undetected flips inside images, catalog pages or annotation pages: {undetected} (bar: 0)")
    print(f"errors that are not scoutview's own: {unclear} (bar: 0)")


def restore(root: Path, files: dict[Path, bytes]) -> None:
    """Every file as it was, and no other."""
    for path in root.rglob("*"):
        if path.is_file() and path not in files:
            path.unlink()
    for path, data in files.items():
        with suppress(FileNotFoundError):
            if path.read_bytes() == data:
                continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
