"""A real S3 protocol server on loopback, in a process of its own: the fixture `s3` gives the URL of a new bucket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "no_proxy": "127.0.0.1",
    "NO_PROXY": "127.0.0.1",
}


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The endpoint of a moto server; the AWS variables of this process (and of its children) point to it."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()  # those remember another endpoint
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    before = {key: os.environ.get(key) for key in (*SETTINGS, "AWS_ENDPOINT_URL")}
    os.environ.update(SETTINGS, AWS_ENDPOINT_URL=endpoint)
    try:
        _wait_until_open(server, port)
        yield endpoint
    finally:
        server.kill()
        server.wait()
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)


@pytest.fixture
def s3(s3_endpoint: str) -> str:
    """`s3://<bucket>` of a bucket that did not exist before."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{s3_endpoint}/{bucket}", method="PUT")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20240101/us-east-1/s3/aws4_request")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    return f"s3://{bucket}"


def _wait_until_open(server: subprocess.Popen[bytes], port: int) -> None:
    """Connects again and again; a refused connection answers at once, so a short select between two is enough."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the S3 server ended with {server.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            _ended_within(server, 0.05)
    raise RuntimeError("the S3 server did not open its port within a minute")


def _ended_within(server: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
