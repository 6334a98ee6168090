"""The servers and stores that other tests rely on do what they say."""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request as Question
from urllib.request import urlopen
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import yaozarrs
import zarr
from servers import CountingServer, Request, depth, max_concurrent
from stores import (
    AXES,
    Version,
    document,
    edit_attributes,
    write_array,
    write_field,
    write_group,
    write_image,
    write_plain,
    write_plate,
    write_scene,
    write_series,
    write_several,
)

BODY = bytes(range(100))
VERSIONS: tuple[Version, ...] = get_args(Version)
ZARR_FORMATS = {"0.1": 2, "0.2": 2, "0.3": 2, "0.4": 2, "0.5": 3, "0.6": 3}


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


def read_elsewhere(array: Path) -> Any:
    """Values of an array as tensorstore reads them."""
    driver = "zarr3" if (array / "zarr.json").exists() else "zarr"
    kvstore = {"driver": "file", "path": str(array)}
    return ts.open({"driver": driver, "kvstore": kvstore}, read=True).result().read().result()


def check_elsewhere(path: Path, version: Version, kind: str, *, whole: bool = True) -> None:
    """Fail if yaozarrs or ome-zarr-models, as far as they know the version, find a fault.

    `kind` is the name of the class of ome-zarr-models; yaozarrs wants the store to be `whole`.
    """
    if whole and version in ("0.4", "0.5"):
        yaozarrs.validate_zarr_store(path)
    if version >= "0.4":
        models = pytest.importorskip(f"ome_zarr_models.v{version.replace('.', '')}")
        getattr(models, kind).from_zarr(open_group(path))


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


@pytest.mark.parametrize("version", ["0.4", "0.5"])
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
    assert arrays[0].metadata.zarr_format == ZARR_FORMATS[version]
    assert (read_elsewhere(path / "1") == arrays[1][...]).all()
    fine, coarse = arrays[0][...], arrays[1][...]
    assert np.ptp(fine) > 0
    block = fine[0, 0, 0, 2:4, 4:6].astype(float).mean()
    edge = fine[0, 0, 0, 20:, 4:6].astype(float).mean()
    assert coarse[0, 0, 0, 1, 2] == pytest.approx(block, abs=0.5)
    assert coarse[0, 0, 0, 10, 2] == pytest.approx(edge, abs=0.5)


@pytest.mark.parametrize("version", VERSIONS)
def test_chunk_keys(tmp_path: Path, version: Version) -> None:
    path = write_image(tmp_path / "image", version=version, axes="tczyx")
    keys = {"0.1": "0/0.1.0.1.1", "0.5": "0/c/0/1/0/1/1", "0.6": "0/c/0/1/0/1/1"}
    assert (path / keys.get(version, "0/0/1/0/1/1")).is_file()
    array = json.loads((path / "0" / ("zarr.json" if version >= "0.5" else ".zarray")).read_text())
    separators = {"0.1": None, "0.5": None, "0.6": None}
    assert array.get("dimension_separator") == separators.get(version, "/")


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_early_images_have_all_axes(tmp_path: Path, version: Version) -> None:
    data = np.arange(2 * 40 * 41, dtype="uint16").reshape(2, 40, 41)
    path = write_image(
        tmp_path / "image",
        version=version,
        axes="cyx",
        data=data,
        chunks=(2, 16, 16),
        labels={"cells": {}},
    )
    array = open_array(path / "0")
    assert (array.shape, array.chunks) == ((1, 2, 1, 40, 41), (1, 2, 1, 16, 16))
    assert (read_elsewhere(path / "0")[0, :, 0] == data).all()
    assert open_array(path / "1").shape == (1, 2, 1, 20, 21)
    assert open_array(path / "labels" / "cells" / "0").shape == (1, 1, 1, 40, 41)
    for axes in ("yxc", "xy"):
        with pytest.raises(ValueError, match="in that order"):
            write_image(tmp_path / "other", version=version, axes=axes)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_attributes_of_arrays(tmp_path: Path, zarr_format: int) -> None:
    version: Version = "0.3" if zarr_format == 2 else "0.5"
    names = {"_ARRAY_DIMENSIONS": ["y", "x"]}
    for attributes in ({}, names, None):
        path = write_image(
            tmp_path / str(attributes), version=version, axes="yx", array_attributes=attributes
        )
        assert open_array(path / "1").attrs.asdict() == (attributes or {})
        has_file = zarr_format == 2 and attributes is not None
        assert (path / "1" / ".zattrs").exists() == has_file


@pytest.mark.parametrize("version", ["0.5", "0.6"])
def test_dimension_names_and_shards(tmp_path: Path, version: Version) -> None:
    path = write_image(
        tmp_path / "image", version=version, axes="zyx", chunks=(4, 16, 16), shards=(4, 32, 64)
    )
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


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_early_documents(tmp_path: Path, version: Version) -> None:
    path = write_image(
        tmp_path / "cell.ome.zarr",
        version=version,
        axes="tczyx",
        levels=2,
        omero={"channels": []},
        labels={"cells": {}},
    )
    axes = {"0.3": {"axes": list("tczyx")}}
    assert document(path) == {
        "multiscales": [
            {
                "version": version,
                "name": "cell",
                "datasets": [{"path": "0"}, {"path": "1"}],
                **axes.get(version, {}),
            }
        ],
        "omero": {"version": version, "channels": []},
    }
    assert document(path / "labels") == {"labels": ["cells"]}
    parts = document(path / "labels" / "cells")["image-label"]
    properties = set() if version == "0.1" else {"properties"}
    assert parts.keys() == {"version", "colors", "source"} | properties


def test_coordinate_systems(tmp_path: Path) -> None:
    yx = [AXES["y"], AXES["x"]]
    to_stage = {
        "type": "translation",
        "translation": [3, 4],
        "input": {"name": "optical"},
        "output": {"name": "stage"},
    }
    path = write_image(
        tmp_path / "image",
        version="0.6",
        axes="yx",
        scale=(2, 3),
        levels=2,
        intrinsic="optical",
        systems=[{"name": "stage", "axes": yx}],
        transformations=[to_stage],
        labels={"cells": {}},
    )
    optical = {"name": "optical", "axes": yx}
    first = {"input": {"path": "0"}, "output": {"name": "optical"}}
    second = {"input": {"path": "1"}, "output": {"name": "optical"}}
    datasets = [
        {
            "path": "0",
            "coordinateTransformations": [{"type": "scale", "scale": [2, 3], **first}],
        },
        {
            "path": "1",
            "coordinateTransformations": [
                {
                    "type": "sequence",
                    "transformations": [
                        {"type": "scale", "scale": [4, 6]},
                        {"type": "translation", "translation": [1, 1.5]},
                    ],
                    **second,
                }
            ],
        },
    ]
    assert document(path) == {
        "version": "0.6",
        "multiscales": [
            {
                "name": "image",
                "coordinateSystems": [optical, {"name": "stage", "axes": yx}],
                "datasets": datasets,
                "coordinateTransformations": [to_stage],
            }
        ],
    }
    (label,) = document(path / "labels" / "cells")["multiscales"]
    assert label == {"name": "cells", "coordinateSystems": [optical], "datasets": datasets}
    check_elsewhere(path, "0.6", "Image")
    check_elsewhere(path / "labels" / "cells", "0.6", "ImageLabel")


def test_versions_as_stated(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a", version="0.6", stated="0.6rc0", labels={"cells": {}})
    folders = [path, path / "labels", path / "labels" / "cells"]
    assert {document(folder)["version"] for folder in folders} == {"0.6rc0"}
    path = write_plate(tmp_path / "b", version="0.5", stated="0.5.2", wells=["A/1"])
    folders = [path, path / "A" / "1", path / "A" / "1" / "0"]
    assert {document(folder)["version"] for folder in folders} == {"0.5.2"}
    path = write_image(tmp_path / "c", version="0.4", stated="0.4.1")
    assert document(path)["multiscales"][0]["version"] == "0.4.1"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
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


@pytest.mark.parametrize("version", ["0.4", "0.5"])
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
    assert group["labels/cells/2"].shape[-2:] == (13, 16)

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


@pytest.mark.parametrize("version", VERSIONS)
def test_groups_are_written_down_to_a_new_one(tmp_path: Path, version: Version) -> None:
    write_array(tmp_path / "alone" / "matrix", np.eye(2), version=version)
    assert [entry.name for entry in (tmp_path / "alone").iterdir()] == ["matrix"]
    root = write_group(tmp_path / "root", version=version, ome={})
    matrix = np.arange(6.0).reshape(2, 3)
    write_array(root / "a" / "b" / "matrix", matrix, version=version)
    assert (open_group(root)["a/b/matrix"][...] == matrix).all()
    assert (read_elsewhere(root / "a" / "b" / "matrix") == matrix).all()
    assert sorted(open_group(root / "a").group_keys()) == ["b"]


@pytest.mark.parametrize("version", VERSIONS)
def test_others_find_images_valid(tmp_path: Path, version: Version) -> None:
    window = {"min": 0, "max": 4000, "start": 0, "end": 3000}
    path = write_image(
        tmp_path / "image.ome.zarr",
        version=version,
        axes="tczyx",
        omero={"channels": [{"color": "FF0000", "window": window}] * 2},
        labels={"cells": {}, "thin": {"axes": "cyx"}},
    )
    check_elsewhere(path, version, "Image")
    check_elsewhere(path / "labels" / "cells", version, "ImageLabel")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.filterwarnings("ignore:'version' field not specified in plate")  # in 0.5
def test_plates(tmp_path: Path, version: Version) -> None:
    path = write_plate(
        tmp_path / "screen.zarr", version=version, labels={"nuclei": {}}, plate={"mine": 1}
    )
    found = document(path)["plate"]
    assert (found["name"], found["field_count"], found["mine"]) == ("screen", 2, 1)
    assert [row["name"] for row in found["rows"]] == ["A", "B"]
    assert [column["name"] for column in found["columns"]] == ["1", "2"]
    assert [well["path"] for well in found["wells"]] == ["A/1", "A/2", "B/1", "B/2"]
    indices = [(well.get("rowIndex"), well.get("columnIndex")) for well in found["wells"]]
    if version >= "0.4":
        assert indices == [(0, 0), (0, 1), (1, 0), (1, 1)]
    else:
        assert indices == [(None, None)] * 4
    versions = [document(path), found, document(path / "A" / "1")["well"]]
    stated = [version, None, None] if version >= "0.5" else [None, version, version]
    assert [each.get("version") for each in versions] == stated
    assert document(path / "B" / "2")["well"]["images"] == [{"path": "0"}, {"path": "1"}]
    fields = [read_elsewhere(path / well / n / "0") for well in ("A/1", "B/2") for n in "01"]
    assert {field.shape[-2:] for field in fields} == {(32, 40)}
    assert len({field.tobytes() for field in fields}) == 4
    assert open_group(path)["B/1/1/labels/nuclei/1"].shape[-2:] == (16, 20)
    check_elsewhere(path, version, "HCS")
    check_elsewhere(path / "A" / "1", version, "Well")


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
@pytest.mark.filterwarnings("ignore:'version' field not specified in plate")  # in 0.5
def test_sparse_plates(tmp_path: Path, version: Version) -> None:
    path = write_plate(
        tmp_path / "plate",
        version=version,
        rows="ABC",
        columns=["1", "2", "10"],
        wells=["B/10", "A/1", "C/2"],
        fields=["0", "1", "2", "left"],
        missing=["C/2", "A/1/left"],
        acquisitions=[{"id": 7}, {"id": 3}],
        image={"axes": "yx", "shape": (20, 20), "levels": 1},
        consolidated=True,
    )
    wells = document(path)["plate"]["wells"]
    assert [tuple(well.values()) for well in wells] == [
        ("B/10", 1, 2),
        ("A/1", 0, 0),
        ("C/2", 2, 1),
    ]
    images = document(path / "A" / "1")["well"]["images"]
    assert [image["acquisition"] for image in images] == [7, 7, 3, 3]
    assert [image["path"] for image in images] == ["0", "1", "2", "left"]
    group = open_group(path, use_consolidated=True)
    assert sorted(group.group_keys()) == ["A", "B"]
    assert sorted(group["A/1"].group_keys()) == ["0", "1", "2"]
    assert sorted(group["B/10"].group_keys()) == ["0", "1", "2", "left"]
    assert group["B/10/left/0"].shape == (20, 20)
    check_elsewhere(path, version, "HCS", whole=False)


def test_early_plates_have_wells_anywhere(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "plate", version="0.2", wells=["2020-10-10/A/1"], fields=1)
    assert document(path)["plate"]["wells"] == [{"path": "2020-10-10/A/1"}]
    assert open_group(path)["2020-10-10/A/1/0/1"].shape == (1, 2, 1, 16, 20)


@pytest.mark.parametrize("version", VERSIONS)
def test_series(tmp_path: Path, version: Version) -> None:
    path = write_series(
        tmp_path / "series",
        version=version,
        series=["1", "0", "2"],
        names=["overview", "<&> µ", ""],
        image={"dtype": "float32"},
    )
    stated = {"version": version} if version >= "0.5" else {}
    assert document(path) == {"bioformats2raw.layout": 3, **stated}
    assert document(path / "OME") == {"series": ["1", "0", "2"], **stated}
    pixels = [read_elsewhere(path / name / "0") for name in "012"]
    assert len({each.tobytes() for each in pixels}) == 3
    root = ElementTree.parse(path / "OME" / "METADATA.ome.xml").getroot()
    space = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    assert root.tag == f"{space}OME"
    assert [image.get("Name") for image in root.iter(f"{space}Image")] == ["overview", "<&> µ", ""]
    for image in root.iter(f"{space}Pixels"):
        sizes = [image.get(f"Size{axis}") for axis in "XYZCT"]
        assert (sizes, image.get("Type")) == (["40", "32", "1", "2", "1"], "float")
        channels = [f"{space}Channel"] * 2
        assert [child.tag for child in image] == [*channels, f"{space}MetadataOnly"]
    check_elsewhere(path, version, "BioFormats2Raw")


def test_series_in_parts(tmp_path: Path) -> None:
    path = write_series(tmp_path / "bare", listed=False, xml=False, missing=["1"])
    assert sorted(open_group(path).group_keys()) == ["0", "2"]
    path = write_series(tmp_path / "unlisted", version="0.4", listed=False, xml="<OME/>")
    assert document(path / "OME") == {}
    assert (path / "OME" / "METADATA.ome.xml").read_text() == "<OME/>"
    path = write_series(tmp_path / "nothing", count=1, missing=["0"])
    assert list(open_group(path).group_keys()) == ["OME"]


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_several_multiscales(tmp_path: Path, version: Version) -> None:
    path = write_several(
        tmp_path / "several",
        [
            {"name": "raw", "paths": ["raw/0", "raw/1"], "axes": "yx"},
            {"name": "sharp", "paths": ["sharp/0"], "multiscale": {"type": "mine"}},
            {"paths": ["last"]},
        ],
        version=version,
        ome={"_creator": "me"},
        attributes={"mine": 1},
        consolidated=True,
    )
    multiscales = document(path)["multiscales"]
    assert [each["name"] for each in multiscales] == ["raw", "sharp", "several"]
    assert [len(each["datasets"]) for each in multiscales] == [2, 1, 1]
    assert multiscales[1]["type"] == "mine"
    assert document(path)["_creator"] == "me"
    group = open_group(path, use_consolidated=True)
    assert group.attrs["mine"] == 1
    assert sorted(group.group_keys()) == ["raw", "sharp"]
    assert group["raw/1"].shape == (25, 31)
    check_elsewhere(path, version, "Image")


def test_scenes(tmp_path: Path) -> None:
    world = {"name": "world", "axes": [AXES[axis] for axis in "yx"]}
    place = [
        {
            "type": "affine",
            "path": "coordinateTransformations/affine",
            "input": {"path": "tile_0", "name": "physical"},
            "output": {"name": "world"},
        },
        {
            "type": "displacements",
            "path": "coordinateTransformations/bent",
            "interpolation": "linear",
            "input": {"path": "tile_1", "name": "stage"},
            "output": {"name": "world"},
        },
    ]
    matrix = np.array([[1.0, 0.2, 3], [0, 1, 4]])
    shifts = np.random.default_rng(0).normal(size=(2, 8, 9))
    path = write_scene(
        tmp_path / "scene",
        images={"tile_0": {"axes": "yx"}, "tile_1": {"axes": "yx", "intrinsic": "stage"}},
        systems=[world],
        transformations=place,
        parameters={
            "coordinateTransformations/affine": matrix,
            "coordinateTransformations/bent": {"field": shifts, "scale": (5, 6)},
        },
        consolidated=True,
    )
    assert document(path) == {
        "version": "0.6",
        "scene": {"coordinateSystems": [world], "coordinateTransformations": place},
    }
    group = open_group(path, use_consolidated=True)
    assert sorted(group.group_keys()) == ["coordinateTransformations", "tile_0", "tile_1"]
    assert (group["coordinateTransformations/affine"][...] == matrix).all()
    assert (group["tile_0/0"][...] != group["tile_1/0"][...]).any()
    bent = path / "coordinateTransformations" / "bent"
    assert (read_elsewhere(bent / "0") == shifts).all()
    check_elsewhere(bent, "0.6", "Image")
    check_elsewhere(path, "0.6", "Scene")


def test_a_scene_without_systems(tmp_path: Path) -> None:
    same = {
        "type": "identity",
        "input": {"path": "raw/a", "name": "physical"},
        "output": {"path": "b", "name": "physical"},
    }
    path = write_scene(tmp_path / "scene", images={"raw/a": {}, "b": {}}, transformations=[same])
    assert document(path)["scene"] == {"coordinateTransformations": [same]}
    assert open_group(path)["raw/a/1"].shape == (2, 16, 20)
    check_elsewhere(path, "0.6", "Scene")


@pytest.mark.parametrize("n_axes", [2, 3])
def test_fields(tmp_path: Path, n_axes: int) -> None:
    field = np.random.default_rng(0).normal(size=(n_axes, 4, 5, 6)[: n_axes + 1])
    path = write_field(
        tmp_path / "field", field, range(1, n_axes + 1), [7] * n_axes, kind="coordinate"
    )
    (multiscale,) = document(path)["multiscales"]
    (system,) = multiscale["coordinateSystems"]
    vector = {"name": "c", "type": "coordinate", "discrete": True}
    assert system["axes"] == [vector, *(AXES[axis] for axis in "zyx"[-n_axes:])]
    (dataset,) = multiscale["datasets"]
    (placed,) = dataset["coordinateTransformations"]
    assert placed["transformations"] == [
        {"type": "scale", "scale": [1, *range(1, n_axes + 1)]},
        {"type": "translation", "translation": [0, *[7] * n_axes]},
    ]
    assert (read_elsewhere(path / dataset["path"]) == field).all()
    plain = write_field(tmp_path / "plain", field)
    (dataset,) = document(plain)["multiscales"][0]["datasets"]
    assert dataset["coordinateTransformations"][0]["scale"] == [1] * (n_axes + 1)
    check_elsewhere(plain, "0.6", "Image")


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
