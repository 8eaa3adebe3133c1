"""Damaged files: what reading them does, and whether anything is taken that is not what the file says.

Run: python benchmarks/fuzz.py [--cases 10000] [--seed 0]; one case again: --only NUMBER

A case is a small file of one of the formats, damaged at random (`benchmarks/fuzz_sources.py`), and read as a worker
of ingest reads it: every image is preprocessed, measured and encoded. One child process reads case after case, with
4 GB of address space and 20 s for each. What can become of a case:

refused      with a reason; the right end of most.
same         taken, and another reader (`benchmarks/fuzz_readers.py`) finds the same values in the same damaged bytes,
             within the rounding of stored integers; for volumes at the same place in the patient.
crash, hang, memory    the child died, took more than 20 s, or more memory than it has.
unexpected   an exception that is no refusal left the reader, or a refusal as decode_error hides one that code of
             ours raised by accident (IndexError, TypeError, AttributeError, ...).
wrong acceptance    taken, and the other reader finds other values or another place; or taken where the other reader
             reads nothing, with other pixels than the whole file has, from a format whose bytes have checksums
             (gzip, zlib, zip, PNG).
unconfirmed  taken where the other reader reads nothing, from a format without checksums.
undecided    taken, and two decoders disagree on a damaged JPEG, JPEG-LS or JPEG 2000 codestream. These have no
             checksum: that such a stream is damaged cannot be known. The frame, its size and its place are compared.

A flipped bit in pixels that no checksum covers is not found, here or anywhere, and is no wrong acceptance: the file
says what it says. pydicom finds frames for itself; the decoder of JPEG lossless, JPEG-LS and HTJ2K is the one that
scoutview uses, since there is no other beside it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_readers import OTHER, SAME, UNDECIDED, UNREAD, judged
from fuzz_sources import DAMAGES, Source, damaged, sources

from scoutview.images import encode_spectrum, radial_spectrum
from scoutview.ingest import RefusedError
from scoutview.ingest.files import SourceFile
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.rules import STRICT
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import make_record
from scoutview.store.shards import Keys

HANG = 20.0
"""Seconds."""
MEMORY = 4 * 2**30
"""Bytes of address space of the child."""
_ACCIDENTS = (
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    NameError,
    ArithmeticError,
    RecursionError,
)
_CHECKED = (b"\x1f\x8b", b"PK\x03\x04", b"\x89PNG")
_BARS = {
    "crash": "crashes", "hang": "hangs", "memory": "out of memory", "unexpected": "unexpected exceptions",
    "wrong acceptance": "wrong acceptances",
}  # fmt: skip
_KEYS = Keys("image", "patient", "", "", "file", "path", "name", "", "", "train")


def read(path: Path, modality: Any) -> list[tuple[str, Any]]:
    """(index, image) of a file, each made into a record as ingest does."""
    preprocessing = Preprocessing()
    taken = []
    for index, image in read_source_file(SourceFile(path, Path("file")), path, modality, STRICT).images:
        if image.pixels.min() == image.pixels.max():
            continue
        spectrum = radial_spectrum(preprocess(image.pixels, calibration_of(image), preprocessing))
        make_record(image, _KEYS, encode_spectrum(spectrum), preprocessing.identity())
        taken.append((index, image))
    if not taken:
        raise RefusedError("constant", "every image has one value")
    return taken


def tried(path: Path, source: Source) -> tuple[str, str, list[tuple[str, Any]]]:
    """(verdict, reason or detail, images) of reading a damaged file."""
    try:
        return "taken", "", read(path, source.modality)
    except RefusedError as error:
        cause = error.__cause__
        if error.reason == "decode_error" and isinstance(cause, _ACCIDENTS) and _is_ours(cause):
            return "unexpected", f"{error}: {_where(cause)}", []
        return "refused", error.reason.partition(":")[0], []
    except MemoryError as error:
        return "memory", _where(error), []
    except Exception as error:
        return "unexpected", _where(error), []


def _is_ours(error: BaseException) -> bool:
    """Whether a line of scoutview raised it, and not a library that it called."""
    return "scoutview" in traceback.extract_tb(error.__traceback__)[-1].filename


def _where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "scoutview" in f.filename]
    return f"{type(error).__name__} {str(error)[:80]!r} at " + " < ".join(
        f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:])
    )


def confirmed(path: Path, source: Source, images: list[tuple[str, Any]]) -> str:
    """The verdict on a file that was taken."""
    verdict = judged(path, images)
    if verdict == OTHER:
        return "wrong acceptance"
    if verdict == UNREAD and (path.read_bytes().startswith(_CHECKED) or b"CompressedData = True" in source.data[:600]):
        path.write_bytes(source.data)
        whole = {index: image.pixels for index, image in read(path, source.modality)}
        equal = [index in whole and np.array_equal(image.pixels, whole[index]) for index, image in images]
        return SAME if all(equal) else "wrong acceptance"
    return {SAME: SAME, UNREAD: "unconfirmed", UNDECIDED: UNDECIDED}[verdict]


def child(pipe: Connection, seed: int) -> None:
    """Answer case numbers with ("taken", ...) and then the verdict, or with the verdict alone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders write to it
    every = sources()
    _, whole = resource.getrlimit(resource.RLIMIT_AS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        pipe.send(("ready", ""))
        while (number := pipe.recv()) is not None:
            source, _, data = damaged(every, seed, number)
            path.write_bytes(data)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, whole))
            verdict, detail, images = tried(path, source)
            resource.setrlimit(resource.RLIMIT_AS, (whole, whole))
            pipe.send((verdict, detail))
            if verdict == "taken":
                try:
                    pipe.send((confirmed(path, source, images), ""))
                except Exception as error:
                    pipe.send(("unexpected", f"in the comparison: {_where(error)} {error}"))


class Child:
    """A process that reads cases; a new one after it was stopped."""

    def __init__(self, seed: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, other = spawn.Pipe()
        self.process = spawn.Process(target=child, args=(other, seed), daemon=True)
        self.process.start()
        other.close()
        self.pipe.recv()

    def verdict(self, number: int) -> tuple[str, str]:
        """What became of a case."""
        self.pipe.send(number)
        answer = self._answer("crash", "hang")
        return self._answer("unconfirmed", "unconfirmed") if answer[0] == "taken" else answer

    def _answer(self, died: str, silent: str) -> tuple[str, str]:
        try:
            if self.pipe.poll(HANG):
                answer: tuple[str, str] = self.pipe.recv()
                return answer
            return silent, f"no answer in {HANG:.0f} s"
        except EOFError:
            self.process.join()
            return died, f"exit code {self.process.exitcode}"

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def main() -> None:
    """Read all cases and print the table and the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    numbers = range(options.cases) if options.only is None else [options.only]
    every = sources()
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    by_damage: Counter[tuple[str, str]] = Counter()
    begin = time.monotonic()
    reader = Child(options.seed)
    for number in numbers:
        verdict, detail = reader.verdict(number)
        source, damage, _ = damaged(every, options.seed, number)
        verdicts[verdict] += 1
        by_damage[damage, verdict] += 1
        reasons.update([detail] if verdict == "refused" else [])
        if verdict not in ("refused", SAME, UNDECIDED):
            print(f"  case {number}: {verdict}, {source.name}, {damage}; {detail}", flush=True)
        if verdict in ("crash", "hang") or not reader.process.is_alive():
            reader.stop()
            reader = Child(options.seed)
    reader.stop()
    report(verdicts, reasons, by_damage, len(every), time.monotonic() - begin)


def report(
    verdicts: Counter[str],
    reasons: Counter[str],
    by_damage: Counter[tuple[str, str]],
    files: int,
    seconds: float,
) -> None:
    """Print what was counted."""
    shown = sorted(verdicts, key=lambda verdict: -verdicts[verdict])
    print(f"{sum(verdicts.values())} cases from {files} files in {seconds:.0f} s\n")
    print(f"| damage | {' | '.join(shown)} |\n|---|{'---|' * len(shown)}")
    for damage in DAMAGES:
        print(f"| {damage} | {' | '.join(str(by_damage[damage, verdict]) for verdict in shown)} |")
    print(f"| all | {' | '.join(str(verdicts[verdict]) for verdict in shown)} |\n\n| reason | files |\n|---|---|")
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f"| {reason} | {count} |")
    print()
    for name, plural in _BARS.items():
        print(f"{plural}: {verdicts[name]} (bar: 0)")
    print(f"cases: {sum(verdicts.values())} (bar: >= 10000)")


if __name__ == "__main__":
    main()
