"""An S3 server on localhost, started and stopped by the tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "archive"


@contextmanager
def bucket_server() -> Iterator[str]:
    """The endpoint of a server that holds the empty bucket `archive`; the environment names it and its credentials."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{port}"
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
        server.stop()


def client_of(endpoint: str):  # type: ignore[no-untyped-def]
    """Another client than the one under test."""
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="tests", aws_secret_access_key="tests"
    )
