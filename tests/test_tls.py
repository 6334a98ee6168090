"""Secure connections: what is not trusted is said so at once, and what is trusted is read."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import write_image

from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.storage.faults import fault_of

if "NGFF_CI" not in os.environ:  # of .ci/run, which has everything
    for name in ("trustme", "obstore", "s3fs"):
        pytest.importorskip(name)

PIXELS = np.arange(64 * 64, dtype="u2").reshape(64, 64)
BACKENDS = ("http", "obstore", "s3fs")


@pytest.fixture(scope="module")
def authority() -> Any:
    import trustme

    return trustme.CA()


@pytest.fixture
def secure(tmp_path: Path, authority: Any) -> Iterator[CountingServer]:
    """A server whose certificate is signed by an authority that nobody knows."""
    write_image(tmp_path / "bucket" / "a.ome.zarr", axes="yx", data=PIXELS, levels=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with CountingServer(tmp_path, tls=context) as running:
        yield running


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "s3fs":
        monkeypatch.setattr("ngff_xarray.storage.s3.is_for_obstore", lambda access: False)
    return str(request.param)


def opened(backend: str, url: str, **options: Any) -> xr.DataTree:
    if backend == "http":
        place = f"{url}/bucket/a.ome.zarr"
    else:
        place = "s3://bucket/a.ome.zarr"
        options = {"endpoint_url": url, "anon": True, **options}
    return xr.open_datatree(place, engine="ngff", storage_options=options)


def test_a_certificate_that_is_not_trusted(secure: CountingServer, backend: str) -> None:
    start = time.monotonic()
    with pytest.raises(StoreError, match=r"certificate is not trusted \(TLS: ") as caught:
        opened(backend, secure.url)
    assert time.monotonic() - start < 10
    said = str(caught.value)
    assert "zarr.json" in said
    assert "SSL_CERT_FILE" in said
    assert "AWS_CA_BUNDLE" in said
    assert "tries" not in said  # another would not help


class _Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def test_a_server_that_speaks_no_https(backend: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(StoreError, match=r"TLS: .*does the server speak https\?") as caught:
            opened(backend, f"https://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "tries" not in str(caught.value)


def test_what_does_not_answer_is_no_fault_of_tls(backend: str) -> None:
    with pytest.raises(NgffError, match="the connection was lost"):
        opened(backend, "https://127.0.0.1:1")
    with pytest.raises(NgffError, match="there is no such host") as caught:
        opened(backend, "https://no-such-host.invalid")
    assert "tries" not in str(caught.value)


OPEN = """
import sys
from ngff_xarray.storage import s3
sys.path.insert(0, {tests!r})
if {backend!r} == "s3fs":
    s3.is_for_obstore = lambda access: False
from test_tls import opened
print(opened({backend!r}, {url!r})["0/image"].values.sum())
"""


def test_an_authority_that_is_named_is_trusted(
    secure: CountingServer, authority: Any, backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    name = "AWS_CA_BUNDLE" if backend == "s3fs" else "SSL_CERT_FILE"
    code = OPEN.format(backend=backend, url=secure.url, tests=str(Path(__file__).parent))
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, name: str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) == PIXELS.sum()


@pytest.mark.parametrize("backend", ["obstore", "s3fs"], indirect=True)
def test_certificates_of_s3_by_options(
    secure: CountingServer, authority: Any, backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    options: list[dict[str, Any]] = [{"verify": False}, {"client_kwargs": {"verify": str(file)}}]
    for given in [*options, {"verify": str(file)}]:
        tree = opened(backend, secure.url, **given)
        np.testing.assert_array_equal(tree["0/image"].values, PIXELS)


def test_a_connection_that_ends_is_asked_for_again() -> None:
    error = ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred")
    assert fault_of(error).is_passing
    assert not fault_of(ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION]")).is_passing
