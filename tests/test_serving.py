"""A store on a loopback port: what is answered, to whom, and what is not."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import zarr
from servers import CountingServer
from stores import write_image, write_plate
from test_zips import zipped

import ngff_xarray
from ngff_xarray.errors import StoreError, StoreNotFoundError, UnsupportedError
from ngff_xarray.export.serving import Served

NOISE = np.random.default_rng(0).integers(0, 2**16, (128, 128)).astype("u2")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_image(
        tmp_path / "a b µ.ome.zarr",
        axes="yx",
        data=NOISE,
        levels=2,
        chunks=(16, 16),
        shards=(64, 64),
        labels={"cells": {}},
    )


def ask(
    served: Served, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Ask for a path below the served store, as it is written."""
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)
    try:
        connection.putrequest(method, parts.path + path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def read_by_tensorstore(url: str, driver: str = "zarr3") -> np.ndarray:
    kvstore = {"driver": "http", "base_url": f"{url}/"}
    return ts.open({"driver": driver, "kvstore": kvstore}).result().read().result()


# ---- who reads it --------------------------------------------------------------------------------


def test_tensorstore_reads_shards(sharded: Path) -> None:
    with xr.open_datatree(sharded).ngff.serve() as served:
        np.testing.assert_array_equal(read_by_tensorstore(f"{served.url}/0"), NOISE)


def test_it_opens_again_here(scan: Path) -> None:
    tree = xr.open_datatree(scan)
    with tree.ngff.serve() as served:
        again = xr.open_datatree(served.url, engine="ngff")
        assert list(again.ngff.labels) == ["cells"]
        np.testing.assert_array_equal(again.ngff.levels[0], tree.ngff.levels[0])


def test_zip_files_remote_stores_and_stores_in_memory(sharded: Path, tmp_path: Path) -> None:
    file = zipped(sharded, tmp_path / "a.zip")
    memory = zarr.storage.MemoryStore()
    xr.open_datatree(sharded).ngff.to_zarr(memory, version="0.5")
    with CountingServer(sharded) as remote:
        for source in (file, remote.url, memory, xr.open_datatree(memory, engine="ngff")):
            with ngff_xarray.serve(source) as served:
                found = read_by_tensorstore(f"{served.url}/0")
                np.testing.assert_array_equal(found, NOISE)


def test_of_a_remote_store_the_bytes_that_are_asked_for_are_read(sharded: Path) -> None:
    with CountingServer(sharded) as remote, ngff_xarray.serve(remote.url) as served:
        remote.clear()
        status, headers, body = ask(served, "/0/c/0/0", Range="bytes=100-299")
        whole = (sharded / "0/c/0/0").read_bytes()
        assert (status, body) == (206, whole[100:300])
        assert headers["content-range"] == f"bytes 100-299/{len(whole)}"
        assert sum(request.nbytes for request in remote.requests) == 200


def test_a_group_below_is_served_alone(tmp_path: Path) -> None:
    plate = xr.open_datatree(write_plate(tmp_path / "p.zarr"), wells="all")
    path, well = next(iter(plate.ngff.images.items()))
    with well.ngff.serve() as served:
        again = xr.open_datatree(served.url, engine="ngff")
        np.testing.assert_array_equal(again.ngff.levels[0], well.ngff.levels[0])
        assert ask(served, "/../../zarr.json")[0] == 404, path


def test_many_read_at_once(sharded: Path) -> None:
    with ngff_xarray.serve(sharded) as served, ThreadPoolExecutor(16) as pool:
        size = (sharded / "0/c/0/0").stat().st_size
        whole = (sharded / "0/c/0/0").read_bytes()
        starts = [n * 37 % size for n in range(200)]
        answers = pool.map(lambda n: ask(served, "/0/c/0/0", Range=f"bytes={n}-{n + 9}"), starts)
        for start, (status, _, body) in zip(starts, answers, strict=True):
            assert (status, body) == (206, whole[start : start + 10])


# ---- what is answered ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=10-99999999", 10, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_ranges(sharded: Path, asked: str, first: int, last: int | None) -> None:
    whole = (sharded / "zarr.json").read_bytes()
    with ngff_xarray.serve(sharded) as served:
        status, headers, body = ask(served, "/zarr.json", Range=asked)
        assert (status, body) == (206, whole[first:last])
        start = len(whole) + first if first < 0 else first
        end = start + len(body) - 1
        assert headers["content-range"] == f"bytes {start}-{end}/{len(whole)}"


def test_ranges_out_of_reach(sharded: Path) -> None:
    size = (sharded / "zarr.json").stat().st_size
    with ngff_xarray.serve(sharded) as served:
        for asked in (f"bytes={size}-", "bytes=-0"):
            status, headers, body = ask(served, "/zarr.json", Range=asked)
            assert (status, headers["content-range"], body) == (416, f"bytes */{size}", b"")
        for asked in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=--1"):
            status, _, body = ask(served, "/zarr.json", Range=asked)
            assert (status, len(body)) == (200, size)


def test_head_and_preflight(sharded: Path) -> None:
    with ngff_xarray.serve(sharded) as served:
        status, headers, body = ask(served, "/zarr.json", "HEAD")
        size = (sharded / "zarr.json").stat().st_size
        assert (status, headers["content-length"], body) == (200, str(size), b"")
        assert ask(served, "/nothing", "HEAD")[0] == 404
        asking = {"Origin": "https://example.org", "Access-Control-Request-Headers": "range"}
        status, headers, _ = ask(served, "/zarr.json", "OPTIONS", **asking)
        assert status == 204
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-headers"] == "*"
        assert "Content-Range" in headers["access-control-expose-headers"]
        assert ask(served, "/zarr.json", "PUT")[0] == 501
        assert ask(served, "/zarr.json", "DELETE")[0] == 501


def test_a_page_in_a_store_is_no_page_of_the_server(sharded: Path) -> None:
    (sharded / "evil.html").write_text("<script>alert(1)</script>")
    with ngff_xarray.serve(sharded) as served:
        _, headers, _ = ask(served, "/evil.html")
        assert headers["content-type"] == "application/octet-stream"
        assert headers["x-content-type-options"] == "nosniff"


# ---- what is not ---------------------------------------------------------------------------------

ESCAPES = [
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/0/../../secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..\\secret.txt",
    "/..%5csecret.txt",
    "/link.txt",
    "/folder/secret.txt",
    "//etc/passwd",
    "/%2fetc/passwd",
    "//zarr.json",
    "/zarr.json%00",
    "/zarr.json/",
    "/./zarr.json",
    "/0",
    "/",
    "",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("path", ESCAPES)
def test_nothing_else_is_served(sharded: Path, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in (tmp_path, outside):
        (place / "secret.txt").write_text("secret")
    (sharded / "link.txt").symlink_to(tmp_path / "secret.txt")
    (sharded / "folder").symlink_to(outside)
    with ngff_xarray.serve(sharded) as served:
        status, _, body = ask(served, path)
        assert status in (404, 502)
        assert b"secret" not in body


def test_the_path_is_needed(sharded: Path) -> None:
    with ngff_xarray.serve(sharded) as served, ngff_xarray.serve(sharded) as other:
        _, token, name = urlsplit(served.url).path.split("/")
        assert len(token) >= 43
        assert token not in other.url
        base = f"http://127.0.0.1:{urlsplit(served.url).port}"
        for path in ("/zarr.json", f"/{name}/zarr.json", f"/{token[:-1]}/{name}/zarr.json"):
            connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=20)
            connection.request("GET", path)
            assert connection.getresponse().status == 404
            connection.close()


def test_only_this_machine_connects(sharded: Path) -> None:
    with ngff_xarray.serve(sharded) as served:
        port = urlsplit(served.url).port
        listening = [
            line.split()[1]
            for table in ("tcp", "tcp6")
            if (file := Path("/proc/net") / table).exists()
            for line in file.read_text().splitlines()[1:]
            if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
        ]
        assert listening == [f"0100007F:{port:04X}"]


def test_a_damaged_store_is_no_missing_chunk(sharded: Path) -> None:
    with CountingServer(sharded) as remote, ngff_xarray.serve(remote.url) as served:
        remote.failures["/0/c/0/0"] = 403
        status, _, body = ask(served, "/0/c/0/0")
        assert status == 502
        assert b"403" in body
        assert ask(served, "/0/c/9/9")[0] == 404


def test_changed_trees_are_not_served(sharded: Path) -> None:
    tree = xr.open_datatree(sharded)
    with pytest.raises(UnsupportedError, match="write it first"):
        tree.ngff.crop(x=slice(0, 5)).ngff.serve()
    with pytest.raises(UnsupportedError, match="computed"):
        tree.ngff.map(lambda array: array + 1).ngff.serve()
    with pytest.raises(UnsupportedError, match="a part"):
        xr.open_datatree(sharded, chunks={}).ngff.crop(x=slice(0, 5)).ngff.serve()
    xr.open_datatree(sharded, chunks={}).ngff.serve().close()


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        ngff_xarray.serve(tmp_path / "no.zarr")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        write_image(tmp_path / "a.zarr", axes="yx")
        with pytest.raises(StoreError, match="cannot serve on port"):
            ngff_xarray.serve(tmp_path / "a.zarr", port=taken.getsockname()[1])


# ---- its end -------------------------------------------------------------------------------------


def test_it_closes(sharded: Path) -> None:
    before = threading.active_count()
    served = ngff_xarray.serve(sharded)
    port = urlsplit(served.url).port
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    kept.request("GET", f"{urlsplit(served.url).path}/zarr.json")
    kept.getresponse().read()
    assert "is served" in repr(served)
    served.close()
    served.close()
    assert "was served" in repr(served)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert kept.sock.recv(1) == b""
    kept.close()
    assert threading.active_count() <= before


def test_a_program_ends_that_closes_nothing(sharded: Path) -> None:
    code = f"import ngff_xarray; print(ngff_xarray.serve({str(sharded)!r}).url)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("http://127.0.0.1:")


def test_broken_requests_end_one_connection_only(sharded: Path) -> None:
    with ngff_xarray.serve(sharded) as served:
        port = urlsplit(served.url).port
        for request in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET /a b c HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
        smuggled = f"GET {urlsplit(served.url).path}/zarr.json HTTP/1.1\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(f"{smuggled}Content-Length: 99\r\n\r\n{smuggled}\r\n".encode())
            found = b""
            while part := connection.recv(65536):
                found += part
        assert found.count(b"HTTP/1.1 200") == 1
        assert ask(served, "/zarr.json")[0] == 200
