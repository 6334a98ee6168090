"""The servers and stores that other tests rely on do what they say."""

from __future__ import annotations

import http.client
import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request as Question
from urllib.request import urlopen

import numpy as np
import pytest
import xarray as xr
import zarr
from servers import CountingServer, Request, depth, max_concurrent
from stores import Version, document, edit_attributes, write_group, write_image, write_plain

BODY = bytes(range(100))
VERSIONS: tuple[Version, ...] = ("0.4", "0.5")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"outside")
    served = tmp_path / "served"
    (served / "a folder").mkdir(parents=True)
    (served / "bytes").write_bytes(BODY)
    (served / "a folder" / "µ").write_bytes(b"here")
    (served / "empty").touch()
    return served


def ask(server: CountingServer, path: str, method: str = "GET", **headers: str) -> Any:
    """Status, headers and body of an answer, errors included; the path is sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


def open_array(store: Path | str) -> Any:
    return zarr.open_array(store, mode="r")


def open_group(store: Path, **options: Any) -> Any:
    return zarr.open_group(store, mode="r", **options)


@pytest.mark.parametrize(
    ("asked", "status", "wanted"),
    [
        ("bytes=10-19", 206, BODY[10:20]),
        ("bytes=90-", 206, BODY[90:]),
        ("bytes=90-1000", 206, BODY[90:]),
        ("bytes=-7", 206, BODY[-7:]),
        ("bytes=-1000", 206, BODY),
        ("bytes=-0", 416, b""),
        ("bytes=100-", 416, b""),
        ("bytes=20-10", 200, BODY),
        ("bytes=0-1,4-5", 200, BODY),
        ("lines=1-2", 200, BODY),
    ],
)
def test_ranges(root: Path, asked: str, status: int, wanted: bytes) -> None:
    with CountingServer(root) as server:
        answer = ask(server, "/bytes", Range=asked)
    assert (answer[0], answer[2]) == (status, wanted)
    assert (server.requests[0].range, server.requests[0].nbytes) == (asked, len(wanted))


def test_range_headers(root: Path) -> None:
    with CountingServer(root) as server:
        assert ask(server, "/bytes", Range="bytes=-7")[1]["Content-Range"] == "bytes 93-99/100"
        assert ask(server, "/bytes", Range="bytes=200-")[1]["Content-Range"] == "bytes */100"
        assert ask(server, "/empty", Range="bytes=0-")[0] == 416


def test_head_tells_the_size_and_sends_nothing(root: Path) -> None:
    with CountingServer(root) as server:
        status, headers, body = ask(server, "/bytes", "HEAD")
        assert (status, headers["Content-Length"], body) == (200, "100", b"")
        assert ask(server, "/nothing", "HEAD")[0] == 404
    assert [request.nbytes for request in server.requests] == [0, 0]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a%20folder",
        "/a%20folder/",
        "/bytes/",
        "//bytes",
        "/../secret",
        "/%2e%2e/secret",
        "/a%20folder/..%2f..%2f..%2fsecret",
        "/link",
        "/%00",
        "bytes",
    ],
)
def test_missing(root: Path, path: str) -> None:
    (root / "link").symlink_to(root.parent / "secret")
    with CountingServer(root) as server:
        assert ask(server, path)[0] == 404
    assert (server.count, server.misses) == (1, 1)


def test_paths_are_decoded(root: Path) -> None:
    with CountingServer(root) as server:
        assert ask(server, "/a%20folder/%C2%B5?version=1")[2] == b"here"
    assert server.requests[0].path == "/a folder/µ"


def test_other_methods_are_refused_and_their_bodies_read(root: Path) -> None:
    with CountingServer(root) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        for method, body, status in [("PUT", b"GET / HTTP/1.1\r\n\r\n", 405), ("GET", None, 200)]:
            connection.request(method, "/bytes", body=body)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.close()
    assert server.count == 2


def test_failures_and_clear(root: Path) -> None:
    with CountingServer(root) as server:
        server.failures["/bytes"] = 503
        with pytest.raises(HTTPError, match="503") as failure:
            urlopen(f"{server.url}/bytes")
        failure.value.close()
        assert (server.count, server.misses) == (1, 1)
        server.failures.clear()
        server.clear()
        with urlopen(Question(f"{server.url}/bytes", headers={"Range": "bytes=0-0"})) as answer:
            assert answer.status == 206
        assert (server.count, server.misses) == (1, 0)


def test_a_connection_is_kept_alive(root: Path) -> None:
    with CountingServer(root) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("GET", "/bytes")
            assert connection.getresponse().read() == BODY
        assert connection.sock is first
        connection.close()


def test_depth_and_concurrency(root: Path) -> None:
    with CountingServer(root, latency=0.5) as server:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: ask(server, "/bytes"), range(4)))
        assert (server.count, server.depth, server.max_concurrent) == (4, 1, 4)
        ask(server, "/bytes")
        assert (server.count, server.depth, server.max_concurrent) == (5, 2, 4)
        assert all(request.end - request.start >= 0.48 for request in server.requests)


def test_depth_is_the_longest_chain() -> None:
    times = [(0, 10), (1, 2), (2, 3), (2.5, 9), (3, 4)]
    requests = [Request("GET", "/", None, 200, 0, start, end) for start, end in times]
    assert (depth(requests), max_concurrent(requests)) == (3, 3)
    assert (depth([]), max_concurrent([])) == (0, 0)


def test_exit_leaves_nothing_behind(root: Path) -> None:
    before = threading.active_count()
    with CountingServer(root, latency=60) as server:
        host, port = urlsplit(server.url).netloc.split(":")
        idle = socket.create_connection((host, int(port)))
        waiting = socket.create_connection((host, int(port)))
        waiting.sendall(b"GET /bytes HTTP/1.1\r\n\r\n")
        waiting.settimeout(0.1)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
    assert threading.active_count() == before
    idle.close()
    waiting.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


@pytest.mark.parametrize("version", VERSIONS)
def test_zarr_reads_over_http(tmp_path: Path, version: Version) -> None:
    data = np.arange(1, 2 * 40 * 40 + 1, dtype="uint16").reshape(2, 40, 40)
    path = write_image(tmp_path / "image.zarr", version=version, axes="cyx", levels=1, data=data)
    with CountingServer(tmp_path) as server:
        array = open_array(f"{server.url}/{path.name}/0")
        server.clear()
        assert (array[...] == data).all()
        assert (server.count, server.misses) == (8, 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_arrays_hold_what_was_asked_for(tmp_path: Path, version: Version, dtype: str) -> None:
    path = write_image(
        tmp_path / "image.zarr",
        version=version,
        axes="tczyx",
        shape=(2, 3, 4, 21, 40),
        dtype=dtype,
        chunks=(1, 1, 4, 16, 16),
        levels=3,
    )
    arrays = [open_array(path / str(level)) for level in range(3)]
    shapes = [array.shape for array in arrays]
    assert shapes == [(2, 3, 4, 21, 40), (2, 3, 4, 11, 20), (2, 3, 4, 6, 10)]
    assert [array.chunks[-2:] for array in arrays] == [(16, 16), (11, 16), (6, 10)]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    assert arrays[0].metadata.zarr_format == {"0.4": 2, "0.5": 3}[version]
    fine, coarse = arrays[0][...], arrays[1][...]
    assert np.ptp(fine) > 0
    block = fine[0, 0, 0, 2:4, 4:6].astype(float).mean()
    edge = fine[0, 0, 0, 20:, 4:6].astype(float).mean()
    assert coarse[0, 0, 0, 1, 2] == pytest.approx(block, abs=0.5)
    assert coarse[0, 0, 0, 10, 2] == pytest.approx(edge, abs=0.5)


@pytest.mark.parametrize("version", VERSIONS)
def test_chunk_keys_are_nested(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "image", version=version, axes="yx")
    chunk = {"0.4": "0/1/1", "0.5": "0/c/1/1"}[version]
    assert (path / chunk).is_file()


def test_dimension_names_and_shards(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image", axes="zyx", chunks=(4, 16, 16), shards=(4, 32, 64))
    arrays = [open_array(path / str(level)) for level in range(3)]
    assert {array.metadata.dimension_names for array in arrays} == {("z", "y", "x")}
    assert {(array.chunks, array.shards) for array in arrays} == {((4, 16, 16), (4, 32, 64))}


def test_the_seed_decides_the_pixels(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / str(n), seed=seed) for n, seed in enumerate([0, 0, 1])]
    same, again, other = (open_array(path / "0")[...] for path in paths)
    assert (same == again).all()
    assert (same != other).any()


def test_transformations(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a", axes="czyx", scale=(1, 2, 0.5, 0.25), levels=2)
    datasets = document(path)["multiscales"][0]["datasets"]
    assert [each["coordinateTransformations"] for each in datasets] == [
        [{"type": "scale", "scale": [1, 2, 0.5, 0.25]}],
        [
            {"type": "scale", "scale": [1, 2, 1, 0.5]},
            {"type": "translation", "translation": [0, 0, 0.25, 0.125]},
        ],
    ]


def test_transformations_without_half_pixels(tmp_path: Path) -> None:
    outer = [{"type": "scale", "scale": [2.0, 3.0]}]
    path = write_image(
        tmp_path / "a", axes="yx", translation=(10, 20), outer=outer, half_pixel=False
    )
    (multiscale,) = document(path)["multiscales"]
    translations = [each["coordinateTransformations"][1] for each in multiscale["datasets"]]
    assert {tuple(each["translation"]) for each in translations} == {(10.0, 20.0)}
    assert multiscale["coordinateTransformations"] == outer


@pytest.mark.parametrize("version", VERSIONS)
def test_documents(tmp_path: Path, version: Version) -> None:
    axes = [{"name": "angle", "type": "angle"}, {"name": "row", "type": "space"}, {"name": "x"}]
    omero = {"channels": [{"color": "FF0000"}]}
    path = write_image(
        tmp_path / "cell.ome.zarr",
        version=version,
        axes=axes,
        paths=["scale0/image", "scale1/image"],
        omero=omero,
        attributes={"mine": 1},
        multiscale={"type": "mean"},
        ome={"_creator": "me"},
    )
    found = document(path)
    (multiscale,) = found["multiscales"]
    assert multiscale["axes"] == axes
    assert (multiscale["name"], multiscale["type"]) == ("cell", "mean")
    assert [each["path"] for each in multiscale["datasets"]] == ["scale0/image", "scale1/image"]
    assert found["omero"].items() >= omero.items()
    assert found["_creator"] == "me"
    versions = [found, multiscale, found["omero"]]
    assert [each.get("version") for each in versions] == {
        "0.4": [None, "0.4", "0.4"],
        "0.5": ["0.5", None, None],
    }[version]
    group = open_group(path)
    assert group.attrs["mine"] == 1
    assert sorted(group.group_keys()) == ["scale0", "scale1"]
    assert group["scale1/image"].shape == (2, 25, 31)


@pytest.mark.parametrize("version", VERSIONS)
def test_labels(tmp_path: Path, version: Version) -> None:
    mask = np.zeros((3, 4, 50, 62), "uint8")
    mask[..., 10:20, 30:40] = 7
    path = write_image(
        tmp_path / "image",
        version=version,
        axes="tczyx",
        translation=(0, 0, 1, 2, 3),
        outer=[{"type": "scale", "scale": [9, 1, 1, 1, 1]}],
        labels={
            "cells": {},
            "sub/mask": {"data": mask, "colors": None, "properties": [{"label-value": 7}]},
            "thin": {"axes": "cyx", "dtype": "uint16", "levels": 1},
        },
    )
    assert document(path / "labels")["labels"] == ["cells", "sub/mask", "thin"]
    cells, nested, thin = (path / "labels" / name for name in ("cells", "sub/mask", "thin"))
    levels = [open_array(cells / str(level))[...] for level in range(3)]
    assert [level.shape for level in levels] == [(3, 4, 50, 62), (3, 4, 25, 31), (3, 4, 13, 16)]
    assert levels[0].dtype == np.uint32
    assert (levels[1] == levels[0][..., ::2, ::2]).all()
    assert set(np.unique(levels[0])) == {0, 1, 2, 3, 4, 5}

    found = document(cells)
    (multiscale,) = found["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "z", "y", "x"]
    assert multiscale["coordinateTransformations"] == [{"type": "scale", "scale": [9, 1, 1, 1]}]
    first = multiscale["datasets"][0]["coordinateTransformations"]
    assert first[1] == {"type": "translation", "translation": [0, 1, 2, 3]}
    parts = found["image-label"]
    assert parts["source"] == {"image": "../../"}
    assert [each["label-value"] for each in parts["colors"]] == [1, 2, 3, 4, 5]
    areas = {each["label-value"]: each["area"] for each in parts["properties"]}
    assert areas == {value: int((levels[0] == value).sum()) for value in range(1, 6)}

    parts = document(nested)["image-label"]
    assert "colors" not in parts
    assert parts["source"] == {"image": "../../../"}
    assert (open_array(nested / "0")[...] == mask).all()
    assert open_array(thin / "0").shape == (1, 50, 62)
    assert not (thin / "1").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_consolidated_metadata_follow_edits(tmp_path: Path, version: Version) -> None:
    path = write_image(
        tmp_path / "image", version=version, axes="yx", labels={"cells": {}}, consolidated=True
    )
    group = open_group(path, use_consolidated=True)
    assert group["labels/cells/2"].shape == (13, 16)

    def rename(ome: dict[str, Any]) -> None:
        ome["multiscales"][0]["name"] = "renamed"
        del ome["multiscales"][0]["datasets"][1:]

    for folder in (path, path / "labels" / "cells"):
        edit_attributes(folder, rename)
        assert document(folder)["multiscales"][0]["name"] == "renamed"
    group = open_group(path, use_consolidated=True)
    for attributes in (group.attrs.asdict(), group["labels/cells"].attrs.asdict()):
        (multiscale,) = attributes.get("ome", attributes)["multiscales"]
        assert (multiscale["name"], len(multiscale["datasets"])) == ("renamed", 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plain_group_becomes_a_plate(tmp_path: Path, version: Version) -> None:
    path = write_group(tmp_path / "plate", version=version, attributes={"mine": 1})
    edit_attributes(path, lambda ome: ome.update(plate={"wells": []}))
    assert document(path)["plate"] == {"wells": []}
    assert open_group(path).attrs["mine"] == 1


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_store(tmp_path: Path, zarr_format: Any) -> None:
    path = write_plain(tmp_path / "climate.zarr", zarr_format)
    with xr.open_dataset(path, engine="zarr") as climate:
        temperature = climate["temperature"].load()
    assert temperature.dims == ("time", "lat", "lon")
    assert temperature.attrs == {"standard_name": "air_temperature", "units": "K"}
    assert math.isclose(float(temperature.min()), 280, abs_tol=20)
    assert str(climate["time"].values[0])[:10] == "2001-01-01"
    with xr.open_datatree(path, engine="zarr") as tree:
        assert tree["sub"]["rainfall"].dims == ("station",)
    assert open_array(path / "temperature").metadata.zarr_format == zarr_format
