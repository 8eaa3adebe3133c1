"""An S3 server on localhost, started and stopped by the tests, with faults where they ask for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "archive"


@dataclass
class Faults:
    """What a server does to GET requests: waits, answers 503 or cuts every n-th answer. requests: (path, range)."""

    latency: float = 0.0
    refuse_every: int = 0
    cut_every: int = 0
    lie_every: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wrap(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """The application with faults. `lie_every` answers are cut and say so nowhere."""

        def faulty(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            key = environ["PATH_INFO"].removeprefix(f"/{BUCKET}").strip("/")
            if environ["REQUEST_METHOD"] != "GET" or not key:
                return application(environ, start)
            time.sleep(self.latency)
            with self.lock:
                self.requests.append((key, environ.get("HTTP_RANGE", "")))
                number = len(self.requests)
            if self.refuse_every and number % self.refuse_every == 0:
                start("503 Slow Down", [("Content-Length", "0")])
                return [b""]
            if self.cut_every and number % self.cut_every == 0:
                return [b"".join(application(environ, start))[:-7]]
            if self.lie_every and number % self.lie_every == 0:
                kept: list[Any] = []
                body = b"".join(application(environ, lambda *answer: kept.extend(answer)))[:-7]
                headers = [item for item in kept[1] if item[0].lower() not in ("content-length", "content-range")]
                sent = [item for item in kept[1] if item[0].lower() == "content-range"]
                if sent:
                    span, _, total = sent[0][1].partition("/")
                    begin = int(span.split()[1].split("-")[0])
                    headers.append(("Content-Range", f"bytes {begin}-{begin + len(body) - 1}/{total}"))
                start(kept[0], [*headers, ("Content-Length", str(len(body)))])
                return [body]
            return application(environ, start)

        return faulty


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        """Nothing."""


@contextmanager
def bucket_server(faults: Faults | None = None) -> Iterator[str]:
    """The endpoint of a server that holds the empty bucket `archive`; the environment names it and its credentials."""
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, (faults or Faults()).wrap(application), threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in {
                "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "tests",
                "AWS_SECRET_ACCESS_KEY": "tests",
            }.items():  # fmt: skip
                environment.setenv(name, value)
            client_of(endpoint).create_bucket(Bucket=BUCKET)
            yield endpoint
    finally:
        server.shutdown()
        thread.join()


def client_of(endpoint: str) -> Any:
    """Another client than the one under test."""
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="tests", aws_secret_access_key="tests"
    )
