"""Batches from a bucket whose every answer takes 20 ms, against the same batches from disk: equal, and how fast.

A real S3 server (moto) runs in a process of its own on this machine and takes its share of the cores: its processor
time is printed. The cache is empty at the start of every run from the bucket, and a second pass reads from it.

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
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from scoutview.batches import Archive, BatchPlan, view_loader
from scoutview.batches.loader import ViewDataset
from scoutview.images import MODALITIES, Image, encode_spectrum, radial_spectrum
from scoutview.objects import bucket_of
from scoutview.preprocessing import Preprocessing, calibration_of, preprocess
from scoutview.store import Store, StoreWriter, make_record
from scoutview.store.shards import Keys
from scoutview.views import ReferenceEnergies, ViewSettings

BUCKET = "archive"
LATENCY = 0.02
"""Seconds."""
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


def loaded(path: str, steps: int) -> tuple[float, str]:
    """(images per second, digest of the batches) of the loader with two workers."""
    archive = Archive.open([path])
    flat = ReferenceEnergies(np.array([32.0, 1200.0]), np.ones((2, 6)), np.full((2, 6), 0.1))
    dataset = ViewDataset(archive, Preprocessing(), SETTINGS, dict.fromkeys(MODALITIES, flat), 0)
    plan = BatchPlan.make(archive.select(), 48, 0)
    digest = hashlib.sha256()
    loader = view_loader(dataset, plan, 0, steps, rank=0, ranks=1, workers=2)
    first = next(loader)  # the workers have started
    begin = time.perf_counter()
    images = 0
    for batch in loader:
        images += len(batch.index)
        digest.update(batch.index.numpy().tobytes() + batch.views.pixels.numpy().tobytes())
    assert len(first.index) == 48
    return images / (time.perf_counter() - begin), digest.hexdigest()


def serve(pipe: Connection) -> None:
    """An S3 server with latency, until the pipe says stop; then it tells its processor time."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            """Nothing."""

    application = DomainDispatcherApplication(create_backend_app)

    def late(environ: dict[str, Any], start: Any) -> Any:
        time.sleep(LATENCY)
        return application(environ, start)

    server = make_server("127.0.0.1", 0, late, threaded=True, request_handler=Silent)
    pipe.send(server.server_port)
    import threading

    threading.Thread(target=server.serve_forever, daemon=True).start()
    while pipe.recv() != "stop":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pipe.send(usage.ru_utime + usage.ru_stime)


def upload(folder: Path, prefix: str) -> None:
    """Copy a store into the bucket by another client."""
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket=BUCKET)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")


def main() -> None:
    """Print images per second and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{here.recv()}", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    bucket_of.cache_clear()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SCOUTVIEW_CACHE"] = str(folder / "cache")
        make_store(folder / "store", options.images)
        upload(folder / "store", "store")
        url = f"s3://{BUCKET}/store"
        Store.open(folder / "store").merged_catalog()
        disk, cold, warm, digests, busy = [], [], [], set(), []
        for _ in range(3):
            rate, digest = loaded(str(folder / "store"), options.steps)
            disk.append(rate)
            digests.add(digest)
            shutil.rmtree(folder / "cache", ignore_errors=True)
            here.send("time")
            before = here.recv()
            begin = time.perf_counter()
            rate, digest = loaded(url, options.steps)
            seconds = time.perf_counter() - begin
            here.send("time")
            busy.append((here.recv() - before) / seconds)
            cold.append(rate)
            digests.add(digest)
            warm.append(loaded(url, options.steps)[0])
        here.send("stop")
    print(f"images/s from disk {sorted(disk)[1]:.0f}, from the bucket {sorted(cold)[1]:.0f}, from its cache "
          f"{sorted(warm)[1]:.0f}; the server took {sorted(busy)[1]:.2f} of a core")  # fmt: skip
    print(f"different batches: {len(digests) - 1} (bar: <= 0)")
    print(f"bucket with 20 ms over disk: {sorted(cold)[1] / sorted(disk)[1]:.2f} (bar: >= 0.70)")
    print(f"cache over disk: {sorted(warm)[1] / sorted(disk)[1]:.2f} (bar: >= 0.90)")


if __name__ == "__main__":
    main()
