"""Batches from a bucket whose every answer takes 20 ms, against the same batches from disk: equal, and how fast.

The server answers what a store needs of S3 (GET with a range, HEAD, the listing) from a folder, without looking at
signatures, with a thread per connection and sendfile. It runs in a process of its own on this machine and takes its
share of the cores, which is printed. The cache is empty at the start of every run from the bucket, and a second pass
reads from it.

Run: python benchmarks/bucket.py [--images 2000] [--steps 40]
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import threading
import time
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import numpy as np

from scoutview.batches import Archive, BatchPlan, view_loader
from scoutview.batches.loader import ViewDataset
from scoutview.batches.workers import AHEAD
from scoutview.images import MODALITIES, Image, encode_spectrum, radial_spectrum
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import Store, StoreWriter, make_record
from scoutview.store.shards import Keys
from scoutview.views import ReferenceEnergies, ViewSettings

BUCKET = "archive"
LATENCY = 0.02
"""Seconds."""
SERVER = "server"
WORKERS = 2
SETTINGS = ViewSettings(crops=(2, 4), sizes=(80, 40), visible=((0.45, 1.0), (0.25, 0.5)))


def make_store(folder: Path, images: int) -> None:
    """Smooth images with noise of 512 x 512, a quarter of each modality, in series of 20."""
    generator = np.random.default_rng(0)
    preprocessing = Preprocessing()
    with StoreWriter(folder, "salt", shard_bytes=64 * 2**20) as writer:
        for number in range(images):
            modality = MODALITIES[number % 4]
            coarse = generator.integers(0, 2000, (33, 33)).repeat(16, 0).repeat(16, 1)[:512, :512]
            pixels = (coarse + generator.integers(0, 60, (512, 512))).astype(np.int16)
            image = Image(pixels, modality)
            spectrum = encode_spectrum(radial_spectrum(preprocess(pixels, calibration_of(image), preprocessing)))
            series = f"{modality}{number // 80}"
            keys = Keys(f"{number:032x}", series, "", series, "", "", "", "", "", "train")
            writer.add(make_record(image, keys, spectrum, preprocessing.identity()))


def processor_seconds() -> float:
    """Processor time of this process and its loader processes so far."""
    total = time.process_time()
    for process in multiprocessing.active_children():
        if process.name != SERVER:
            numbers = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            total += (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
    return total


def loaded(path: str, steps: int) -> tuple[float, float, str]:
    """(images per second, processor time per image in ms, digest of the batches) of the loader with two workers."""
    archive = Archive.open([path])
    flat = ReferenceEnergies(np.array([32.0, 1200.0]), np.ones((2, 6)), np.full((2, 6), 0.1))
    dataset = ViewDataset(archive, Preprocessing(), SETTINGS, dict.fromkeys(MODALITIES, flat), 0)
    plan = BatchPlan.make(archive.select(), 48, 0)
    digest = hashlib.sha256()
    loader = view_loader(dataset, plan, 0, steps, rank=0, ranks=1, workers=WORKERS)
    first = next(loader)
    waiting = WORKERS * AHEAD  # batches that are ready when the workers, now started, have nothing left to do
    before = 0.0
    while (now := processor_seconds()) > before + 0.05:
        before = now
        time.sleep(1)
    begin, busy, used = time.perf_counter(), processor_seconds(), 0.0
    images = -waiting * len(first.index)
    for batch in loader:
        images += len(batch.index)
        used = processor_seconds() - busy  # when all is read, the loader processes are gone
        digest.update(batch.index.numpy().tobytes() + batch.views.pixels.numpy().tobytes())
    assert len(first.index) == 48
    return images / (time.perf_counter() - begin), 1e3 * used / images, digest.hexdigest()


class S3Request(BaseHTTPRequestHandler):
    """One connection; every answer comes after LATENCY."""

    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        """Size and stamp of an object."""
        self.do_GET()

    def do_GET(self) -> None:
        """An object, a range of it, or the listing of a bucket."""
        time.sleep(LATENCY)
        url = urlsplit(self.path)
        _, bucket, *key = unquote(url.path).split("/", 2)
        query = parse_qs(url.query)
        if "list-type" in query:
            self._send(200, self._listing(query.get("prefix", [""])[0]))
            return
        path = self.root / "".join(key)
        if bucket != BUCKET or not path.is_file():
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            begin, end = 0, size
            if asked := self.headers.get("Range"):
                first, last = asked.removeprefix("bytes=").split("-")
                begin, end = int(first), min(int(last) + 1, size)
            self._send(
                206 if asked else 200,
                b"",
                Content_Length=str(end - begin),
                Content_Range=f"bytes {begin}-{end - 1}/{size}",
                ETag=stamp_of(path),
                Last_Modified=formatdate(path.stat().st_mtime, usegmt=True),
            )
            if self.command == "GET":
                self.connection.sendfile(stream, begin, end - begin)

    def _listing(self, prefix: str) -> bytes:
        entries = []
        for path in sorted(self.root.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and path.is_file() and not path.name.startswith("."):
                changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{changed}</LastModified>"
                    f"<ETag>{escape(stamp_of(path))}</ETag><Size>{path.stat().st_size}</Size></Contents>"
                )
        content = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(entries)}</ListBucketResult>"
        return content.encode()

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        """Status, headers (with _ for - in their names) and body; with `Content_Length` the body follows."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def stamp_of(path: Path) -> str:
    """What S3 calls an entity tag."""
    return f'"{path.stat().st_size:x}-{path.stat().st_mtime_ns:x}"'


def serve(pipe: Connection) -> None:
    """A server of the folder that comes through the pipe, until it says stop; it tells its processor time."""
    S3Request.root = pipe.recv()
    server = ThreadingHTTPServer(("127.0.0.1", 0), S3Request)
    pipe.send(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while pipe.recv() != "stop":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pipe.send(usage.ru_utime + usage.ru_stime)


def server_seconds(pipe: Connection) -> float:
    """Processor time of the server so far."""
    pipe.send("time")
    used: float = pipe.recv()
    return used


def main() -> None:
    """Print images per second and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True, name=SERVER)
    server.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here.send(folder)
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{here.recv()}", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "SCOUTVIEW_CACHE": str(folder / "cache"),
        }  # fmt: skip
        make_store(folder / "store", options.images)
        url = f"s3://{BUCKET}/store"
        Store.open(folder / "store").merged_catalog()
        runs: dict[str, list[tuple[float, float, str]]] = {"disk": [], "bucket": [], "cache": []}
        busy = []
        for _ in range(3):
            runs["disk"].append(loaded(str(folder / "store"), options.steps))
            shutil.rmtree(folder / "cache", ignore_errors=True)
            before, begin = server_seconds(here), time.perf_counter()
            runs["bucket"].append(loaded(url, options.steps))
            busy.append((server_seconds(here) - before) / (time.perf_counter() - begin))
            runs["cache"].append(loaded(url, options.steps))
        here.send("stop")
    rate = {name: float(np.median([run[0] for run in runs[name]])) for name in runs}
    cost = {name: float(np.median([run[1] for run in runs[name]])) for name in runs}
    for name in runs:
        print(f"from {name}: {rate[name]:.0f} images/s, {cost[name]:.2f} ms of processor time per image")
    print(f"processor time of the server: {sorted(busy)[1]:.2f} of a core")
    digests = {digest for name in runs for _, _, digest in runs[name]}
    print(f"different batches: {len(digests) - 1} (bar: <= 0)")
    print(f"bucket with 20 ms over disk: {rate['bucket'] / rate['disk']:.2f} (bar: >= 0.70)")
    print(f"cache over disk: {rate['cache'] / rate['disk']:.2f} (bar: >= 0.90)")
    print(f"bucket over disk, in processor time: {cost['disk'] / cost['bucket']:.2f} (no bar)")
    print(f"cache over disk, in processor time: {cost['disk'] / cost['cache']:.2f} (no bar)")


if __name__ == "__main__":
    main()
