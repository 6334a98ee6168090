"""Buckets in another region than the one that is asked: they are found, at the cost of a question.

AWS's own names are asked for, through a proxy that leads to loopback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import write_image

if "NGFF_CI" not in os.environ:  # of .ci/run, which has everything
    for name in ("trustme", "obstore", "s3fs"):
        pytest.importorskip(name)

from aws import Aws, proxy

HOME = "eu-central-1"
PIXELS = np.arange(64 * 64, dtype="u2").reshape(64, 64)
SIGNED = {"key": "a-key", "secret": "a-secret"}
CODE = """
import json, pickle, sys
import xarray as xr
from ngff_xarray.storage import s3
library, url, options, times = json.loads(sys.argv[1])
if library == "s3fs":
    s3.is_for_obstore = lambda access: False
for _ in range(times):
    tree = xr.open_datatree(url, engine="ngff", storage_options=options)
    tree = pickle.loads(pickle.dumps(tree))
    print(tree["0/image"].values.sum())
"""


@pytest.fixture(params=["obstore", "s3fs"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Aws]:
    import trustme

    write_image(tmp_path / "bucket" / "a.ome.zarr", axes="yx", data=PIXELS, levels=1)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    with Aws(tmp_path, HOME, authority) as running:
        yield running


def opened(
    aws: Aws, library: str, options: dict[str, Any], times: int = 1, **environment: str
) -> list[tuple[str, int, str]]:
    """Method, status and host of what is asked for to read an image in a fresh Python."""
    file = str(aws.root / "authority.pem")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    with proxy(aws) as way:
        found = subprocess.run(
            [
                sys.executable,
                "-c",
                CODE,
                json.dumps([library, "s3://bucket/a.ome.zarr", options, times]),
            ],
            env={
                **kept,
                "HTTPS_PROXY": way,
                "SSL_CERT_FILE": file,
                "AWS_CA_BUNDLE": file,
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                **environment,
            },
            capture_output=True,
            text=True,
        )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == [str(PIXELS.sum())] * times
    return [
        (request.method, request.status, host)
        for request, host in zip(aws.requests, aws.hosts, strict=True)
    ]


@pytest.mark.parametrize("options", [{"anon": True}, SIGNED], ids=["anonymous", "signed"])
@pytest.mark.parametrize("named", [{}, {"client_kwargs": {"region_name": "us-west-2"}}], ids=str)
def test_a_bucket_of_another_region(
    aws: Aws, library: str, options: dict[str, Any], named: dict[str, Any]
) -> None:
    asked = opened(aws, library, {**options, **named})
    elsewhere = [host for _, _, host in asked if HOME not in host]
    assert [status for _, status, host in asked if host in elsewhere] == [301] * len(elsewhere)
    # botocore finds out for itself, once pickled again, for each of the chunks under way
    assert 1 <= len(elsewhere) <= (2 if library == "obstore" else 1 + 4)
    assert HOME not in asked[0][2]


def test_a_region_is_found_out_once(aws: Aws) -> None:
    asked = opened(aws, "obstore", {"anon": True}, times=2)
    assert [method for method, _, host in asked if HOME not in host] == ["GET", "HEAD"]


def test_a_request_that_is_signed_for_another_region(aws: Aws, library: str) -> None:
    options = {**SIGNED, "endpoint_url": f"https://s3.{HOME}.amazonaws.com"}
    asked = opened(aws, library, options)
    assert asked[0][1] == 400
    assert [status for _, status, _ in asked].count(400) <= (1 if library == "obstore" else 1 + 4)
    assert {host.removeprefix("bucket.") for _, _, host in asked} == {f"s3.{HOME}.amazonaws.com"}


def test_credentials_of_the_environment_go_along(aws: Aws, library: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret"}
    opened(aws, library, {}, **keys)
    assert all(aws.signed)


def test_the_right_region_costs_nothing(aws: Aws, library: str) -> None:
    asked = opened(aws, library, {"anon": True, "client_kwargs": {"region_name": HOME}})
    assert {host.removeprefix("bucket.") for _, _, host in asked} == {f"s3.{HOME}.amazonaws.com"}
    assert not [method for method, status, _ in asked if status in (301, 400)]


def test_a_server_that_does_not_say_where(aws: Aws) -> None:
    aws.tells = False
    with pytest.raises(AssertionError, match=r"another region, .*'region_name'"):
        opened(aws, "obstore", {"anon": True})
