"""Opening over HTTP: requests and round trips are counted, never timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import write_image, write_plain

from ngff_xarray.errors import StoreError, StoreNotFoundError
from ngff_xarray.viewing import TileServer, home_view, make_world

LATENCY = 0.05  # seconds: long enough that concurrent requests overlap


def _five_levels(path: Path, version: str, *, consolidated: bool = False) -> None:
    labels = {"nuclei": {"levels": 5}, "cells": {"levels": 5}}
    write_image(
        path, version=version, levels=5, shape=(2, 4, 160, 160), labels=labels,
        consolidated=consolidated,
    )  # fmt: skip


def _round_trips(server: CountingServer, name: str, expected: int) -> int:
    """The longest chain of requests that waited for each other, when an image is opened.

    A busy machine sends concurrent requests one after the other and so can only lengthen the
    chain: the shortest of several runs is the one that the code asks for.
    """
    depths = []
    for _ in range(10):
        server.clear()
        xr.open_datatree(f"{server.url}/{name}")
        depths.append(server.depth)
        if depths[-1] <= expected:
            break
    return min(depths)


@pytest.mark.parametrize(
    ("version", "consolidated", "requests", "trips", "misses"),
    [("0.5", False, 19, 4, 0), ("0.5", True, 1, 1, 0), ("0.4", False, 21, 6, 2)],
)
def test_requests_to_open_five_levels_and_two_label_images(
    tmp_path: Path, version: str, consolidated: bool, requests: int, trips: int, misses: int
) -> None:
    _five_levels(tmp_path / "image.ome.zarr", version, consolidated=consolidated)
    with CountingServer(tmp_path, LATENCY) as server:
        tree = xr.open_datatree(f"{server.url}/image.ome.zarr")
        assert len(tree["labels"].children) == 2
        assert server.count <= requests
        assert _round_trips(server, "image.ome.zarr", trips) <= trips
        assert server.misses <= misses
        paths = [request.path for request in server.requests]
        assert len(set(paths)) == len(paths), "nothing is asked twice"


def test_without_labels_the_only_miss_asks_for_them(tmp_path: Path) -> None:
    write_image(tmp_path / "image.ome.zarr", levels=5, shape=(2, 4, 160, 160))
    with CountingServer(tmp_path, LATENCY) as server:
        xr.open_datatree(f"{server.url}/image.ome.zarr")
        missed = [request.path for request in server.requests if request.status >= 400]
        assert missed == ["/image.ome.zarr/labels/zarr.json"]
        assert server.count == 7
        assert _round_trips(server, "image.ome.zarr", 2) == 2


def test_a_first_picture_takes_four_round_trips(tmp_path: Path) -> None:
    """Two to open an image without labels, and two to see it; no chunk is read twice."""
    shape, chunks = (2, 8, 512, 512), (1, 1, 128, 128)
    write_image(tmp_path / "image.ome.zarr", levels=4, shape=shape, chunks=chunks)
    depths = []
    for _ in range(4):  # a loaded machine makes more of them
        with CountingServer(tmp_path, LATENCY) as server:
            tree = xr.open_datatree(f"{server.url}/image.ome.zarr")
            world = make_world(tree)
            tiles = TileServer(world)
            drawn = tiles.picture(home_view(world, (500, 400)))
            tiles.close()
        assert drawn.any()
        paths = [request.path for request in server.requests]
        assert len(set(paths)) == len(paths), "nothing is read twice"
        depths.append(server.depth)
        if depths[-1] <= 4:
            break
    assert min(depths) <= 4


def test_a_remote_image_equals_the_local_one(scan: Path, server: CountingServer) -> None:
    for ending in ("", "/"):
        remote = xr.open_datatree(f"{server.url}/{scan.name}{ending}")
        xr.testing.assert_identical(remote.load(), xr.open_datatree(scan).load())
    remote = xr.open_dataset(f"{server.url}/{scan.name}", level=1)
    xr.testing.assert_identical(remote.load(), xr.open_dataset(scan, level=1).load())


def test_sharded_images_are_read_by_ranges(tmp_path: Path, server: CountingServer) -> None:
    path = write_image(
        tmp_path / "a.ome.zarr", axes="yx", shape=(256, 256), levels=1, chunks=(32, 32),
        shards=(128, 128),
    )  # fmt: skip
    image = xr.open_dataset(f"{server.url}/a.ome.zarr")["image"]
    server.clear()
    corner = image.isel(x=slice(0, 8), y=slice(0, 8)).compute()
    np.testing.assert_array_equal(corner, xr.open_dataset(path)["image"][:8, :8])
    assert all(request.range for request in server.requests)
    assert server.count == 2  # the shard's index and one chunk


def test_a_name_without_zarr_and_labels_below(tmp_path: Path, server: CountingServer) -> None:
    write_image(tmp_path / "6001240", labels={"cells": {}})
    assert "0" in xr.open_datatree(f"{server.url}/6001240").children
    labels = xr.open_datatree(f"{server.url}/6001240/labels/cells")
    assert labels.ngff.kind == "labels"


def test_other_stores_are_left_to_xarray(tmp_path: Path, server: CountingServer) -> None:
    path = write_plain(tmp_path / "climate.zarr", 3)
    url = f"{server.url}/climate.zarr"
    xr.testing.assert_identical(xr.open_dataset(url).load(), xr.open_dataset(path).load())
    xr.testing.assert_identical(xr.open_datatree(url).load(), xr.open_datatree(path).load())


def test_other_files_are_not_asked_for(server: CountingServer) -> None:
    guess = xr.backends.list_engines()["ngff"].guess_can_open
    assert not guess(f"{server.url}/table.nc")
    assert not guess(f"{server.url}/notes.txt?zarr.json")
    assert server.count == 0


def test_a_missing_image(server: CountingServer) -> None:
    with pytest.raises(StoreNotFoundError, match=r"nothing\.ome\.zarr"):
        xr.open_datatree(f"{server.url}/nothing.ome.zarr")


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_refusal_names_the_store(scan: Path, server: CountingServer, status: int) -> None:
    for name in ("zarr.json", ".zattrs"):
        server.failures[f"/{scan.name}/{name}"] = status
    with pytest.raises(StoreError, match=rf"scan\.ome\.zarr: cannot read .*{status}"):
        xr.open_datatree(f"{server.url}/{scan.name}")


def test_a_refused_level_is_an_error_and_refused_labels_an_issue(
    scan: Path, server: CountingServer, version: str
) -> None:
    level, labels = {"0.4": (".zarray", ".zattrs"), "0.5": ("zarr.json", "zarr.json")}[version]
    server.failures[f"/{scan.name}/labels/{labels}"] = 403
    tree = xr.open_datatree(f"{server.url}/{scan.name}")
    assert [issue.path for issue in tree.ngff.issues] == ["labels"]
    server.failures[f"/{scan.name}/1/{level}"] = 403
    with pytest.raises(StoreError, match=r"cannot read 1/"):
        xr.open_datatree(f"{server.url}/{scan.name}")


def test_zarr_v2_opens_where_missing_keys_are_forbidden(
    tmp_path: Path, server: CountingServer
) -> None:
    write_image(tmp_path / "a.ome.zarr", version="0.4")
    server.failures["/a.ome.zarr/zarr.json"] = 403
    assert "0" in xr.open_datatree(f"{server.url}/a.ome.zarr").children


def test_a_page_instead_of_metadata(tmp_path: Path, server: CountingServer) -> None:
    folder = tmp_path / "page.ome.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_text("<html>please log in</html>")
    with pytest.raises(StoreError, match="answered with a page of HTML"):
        xr.open_datatree(f"{server.url}/page.ome.zarr")


def test_storage_options_reach_the_http_client(scan: Path, server: CountingServer) -> None:
    url = f"{server.url}/{scan.name}"
    good = {"client_kwargs": {"headers": {"X-Test": "1"}}}
    assert "0" in xr.open_datatree(url, engine="ngff", storage_options=good).children
    assert "image" in xr.open_dataset(url, storage_options=good)
    wrong = {"client_kwargs": {"no_such_option": 1}}
    with pytest.raises(StoreError, match="no_such_option"):
        xr.open_datatree(url, storage_options=wrong)


def test_the_repr_reads_one_coarse_level(scan: Path, server: CountingServer) -> None:
    tree = xr.open_datatree(f"{server.url}/{scan.name}")
    server.clear()
    tree.ngff._repr_html_()
    levels = {request.path.split("/")[2] for request in server.requests}
    assert levels == {"2"}
    server.clear()
    repr(tree.ngff)
    assert server.count == 0


@pytest.mark.slow
def test_a_quick_look_at_a_large_image_reads_little(tmp_path: Path, server: CountingServer) -> None:
    write_image(tmp_path / "a.ome.zarr", axes="yx", shape=(2048, 2048), levels=5)
    tree = xr.open_datatree(f"{server.url}/a.ome.zarr")
    server.clear()
    assert tree.ngff.rgb(max_pixels=256**2).shape == (256, 256, 3)
    assert {request.path.split("/")[2] for request in server.requests} == {"3"}
