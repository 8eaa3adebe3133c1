"""`scoutview doctor`: what this machine can do, and what is in the way."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from json import dumps
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from scoutview import __version__
from scoutview.errors import UsageError
from scoutview.ingest.pseudonyms import VARIABLE, key_file
from scoutview.store.codec import decode, encode, prefix_lengths
from scoutview.training.devices import resolve_compile, resolve_precision, resolve_workers

LEAST_FREE = 10 * 2**30
"""Bytes on the disk below which an archive will not get far."""
LEAST_SHARED = 2**30
"""Bytes of shared memory through which loader processes hand batches over."""
LEAST_FILES = 1024
"""Open files that a process may have."""
EXTRAS = {
    "s3": (("obstore",), "archives in object storage"),
    "cluster": (("distributed",), "ingest and studies on Dask"),
    "export": (("onnx", "onnxruntime", "onnxscript"), "models as ONNX"),
    "monai": (("monai",), "models as MONAI bundles"),
    "dicom-sr": (("highdicom",), "predictions as DICOM SR"),
    "wandb": (("wandb",), "runs in Weights & Biases"),
    "mlflow": (("mlflow-skinny",), "runs in MLflow"),
}
"""Extra of pyproject.toml: the distributions that it brings, and what needs them."""
_TRANSFER_SYNTAXES = {
    "JPEG": "JPEG",
    "JPEG lossless": "LJPEG",
    "JPEG-LS": "JPEGLS",
    "JPEG 2000": "JPEG2K",
    "HTJ2K": "HTJ2K",
}

State = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and whether it is in the way (bad) or worth knowing (note)."""

    name: str
    state: State
    text: str


def doctor(folder: Path = Path(), *, json: bool = False) -> int:
    """Tell what this machine can do: devices, decoders, disk, secret, optional parts.

    Args:
        folder: Where stores and runs are to lie; its disk is looked at.
        json: End with one line of JSON for programs.

    Returns:
        0 when nothing is in the way, else 1.

    Raises:
        UsageError: There is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: give the one where stores and runs are to lie")
    findings = list(examine(folder))
    table = Table(box=None, show_header=False)
    for finding in findings:
        table.add_row(finding.name, finding.state if finding.state != "good" else "", finding.text)
    Console().print(table, highlight=False, markup=False)
    bad = [finding for finding in findings if finding.state == "bad"]
    print(f"in the way: {', '.join(finding.name for finding in bad)}" if bad else "nothing is in the way")
    if json:
        print(dumps({"findings": [asdict(finding) for finding in findings], "bad": len(bad)}), flush=True)
    return 1 if bad else 0


def examine(folder: Path) -> Iterator[Finding]:
    """Everything that is looked at; what fails becomes a finding and never an error."""
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("versions", _versions),
        ("processor", _processor),
        ("device", _device),
        ("memory", _memory),
        ("store codec", _codec),
        ("DICOM decoders", _decoders),
        ("disk", lambda: _disk(folder)),
        ("shared memory", _shared_memory),
        ("open files", _open_files),
        ("secret", _secret),
    ]
    for name, look in looks:
        try:
            yield look()
        except Exception as error:  # a look must not hide the others
            yield Finding(name, "bad", f"cannot be looked at: {type(error).__name__}: {error}")
    for name, (distributions, purpose) in EXTRAS.items():
        yield _extra(name, distributions, purpose)


def _versions() -> Finding:
    parts = [f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "pydicom", "pyarrow", "duckdb")]
    known = sys.version_info[:2] >= (3, 11)
    text = f"scoutview {__version__}, Python {platform.python_version()}, {', '.join(parts)}"
    return Finding("versions", "good" if known else "bad", text)


def _processor() -> Finding:
    workers, reason = resolve_workers("auto", 1)
    precision, why = resolve_precision("auto") if not torch.cuda.is_available() else ("", "")
    text = f"{reason.split(' for ')[0]}, loader processes for one rank: {workers}"
    return Finding("processor", "good", f"{text}; {precision}: {why}" if precision else text)


def _device() -> Finding:
    if not torch.cuda.is_available():
        text = "no GPU that torch can use: recipes demo and small_cpu are for this, the others would take months"
        return Finding("device", "note", text)
    names = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    compiled, why = resolve_compile("auto")
    listed = ", ".join(f"{part.name} ({part.total_memory / 2**30:.0f} GiB)" for part in names)
    return Finding("device", "good", f"{listed}; {resolve_precision('auto')[0]}; compile {compiled}: {why}")


def _memory() -> Finding:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", "good" if whole > 6 * 2**30 else "note", f"{whole / 2**30:.1f} GiB")


def _codec() -> Finding:
    pixels = np.random.default_rng(0).integers(-1000, 3000, (128, 96)).astype(np.int16)
    data = encode(pixels)
    half = decode(data[: prefix_lengths(data)[0]], 1)
    if half.shape != (64, 48):
        return Finding("store codec", "bad", f"a prefix decodes to {half.shape}: install imagecodecs anew")
    return Finding("store codec", "good", f"HTJ2K by imagecodecs {imagecodecs.__version__}, whole and by prefix")


def _decoders() -> Finding:
    missing = [name for name, part in _TRANSFER_SYNTAXES.items() if not getattr(imagecodecs, part).available]
    if missing:
        return Finding("DICOM decoders", "bad", f"imagecodecs lacks {', '.join(missing)}: install it from a wheel")
    return Finding("DICOM decoders", "good", ", ".join(_TRANSFER_SYNTAXES))


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"scoutview")
        file.flush()
        os.fsync(file.fileno())
    text = f"{free / 2**30:.0f} GiB free at {folder.resolve()}"
    return Finding("disk", "good" if free > LEAST_FREE else "note", text)


def _shared_memory() -> Finding:
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("shared memory", "note", "none is mounted at /dev/shm: loaders need workers 0")
    size = shutil.disk_usage(place).free
    if size < LEAST_SHARED:
        text = f"{size / 2**20:.0f} MiB free: too little for loaders; give the container --shm-size, or workers 0"
        return Finding("shared memory", "bad", text)
    return Finding("shared memory", "good", f"{size / 2**30:.1f} GiB free")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < LEAST_FILES
    return Finding("open files", "note" if few else "good", f"{soft} per process{f': ulimit -n {hard}' if few else ''}")


def _secret() -> Finding:
    if os.environ.get(VARIABLE):
        return Finding("secret", "good", f"pseudonyms are keyed by {VARIABLE}")
    path = key_file()
    if not path.exists():
        return Finding("secret", "note", f"none yet: the first ingest makes {path}; keep a copy, it joins later stores")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("secret", "bad", f"{path} can be read by others (mode {mode:04o}): run chmod 600 on it")
    return Finding("secret", "good", f"pseudonyms are keyed by {path}")


def _extra(name: str, distributions: tuple[str, ...], purpose: str) -> Finding:
    versions = {entry: _version(entry) for entry in distributions}
    missing = [entry for entry, version in versions.items() if version is None]
    if missing:
        return Finding(name, "note", f"{purpose}: lacks {', '.join(missing)}: pip install 'scoutview[{name}]'")
    there = ", ".join(f"{entry} {version}" for entry, version in versions.items())
    return Finding(name, "good", f"{purpose}: {there}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
