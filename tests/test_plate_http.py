"""Plates over HTTP: requests and round trips are counted, never timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import write_plate, write_series

LATENCY = 0.05  # seconds: long enough that concurrent requests overlap
ROWS = "ABCDEFGHIJKLMNOP"
COLUMNS = [str(n) for n in range(1, 25)]
WELLS = [f"{row}/{column}" for row in ROWS for column in COLUMNS]
FIELD = {"axes": "yx", "shape": (64, 80), "levels": 4}

root = pytest.mark.parametrize("consolidated", [False, True], ids=["plain", "consolidated"])
ways = pytest.mark.parametrize(
    "way",
    [
        lambda url: xr.open_datatree(url, group="B/3/0", engine="ngff"),
        lambda url: xr.open_datatree(f"{url}/B/3/0"),
    ],
    ids=["group", "address"],
)
Way = Callable[[str], xr.DataTree]


def _plate(path: Path, *, consolidated: bool = False, version: str = "0.5") -> None:
    """Write a plate that lists 384 wells, of which B/3 is there, and its field's label."""
    write_plate(
        path / "p.ome.zarr",
        version=version,
        rows=ROWS,
        columns=COLUMNS,
        fields=1,
        missing=[well for well in WELLS if well != "B/3"],
        image=FIELD,
        labels={"cells": {}},
        consolidated=consolidated,
    )


def _counted(server: CountingServer, action: Callable[[], Any], trips: int) -> tuple[int, int]:
    """Return how many requests were sent, and the longest chain that waited for each other.

    A busy machine sends concurrent requests one after the other and so can only lengthen the
    chain: the shortest of several runs is the one that the code asks for.
    """
    depths = []
    for _ in range(10):
        server.clear()
        action()
        depths.append(server.depth)
        if depths[-1] <= trips:
            break
    asked = [(request.method, request.path, request.range) for request in server.requests]
    assert len(set(asked)) == len(asked), "nothing is asked twice"
    return server.count, min(depths)


def _nbytes(server: CountingServer) -> int:
    return sum(request.nbytes for request in server.requests)


@root
def test_a_plate_of_384_wells_takes_one_request(tmp_path: Path, consolidated: bool) -> None:
    _plate(tmp_path, consolidated=consolidated)
    with CountingServer(tmp_path) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
        assert len(plate.ngff.wells) == 384
        assert [request.path for request in server.requests] == ["/p.ome.zarr/zarr.json"]
        server.clear()
        repr(plate.ngff)
        plate.ngff._repr_html_()
        assert plate.ngff.issues == ()
        assert server.count == 0


def test_a_plate_in_zarr_v2_takes_two_requests_more(tmp_path: Path) -> None:
    _plate(tmp_path, version="0.4")
    with CountingServer(tmp_path) as server:
        xr.open_datatree(f"{server.url}/p.ome.zarr")
        names = {request.path.removeprefix("/p.ome.zarr/") for request in server.requests}
        assert names == {"zarr.json", ".zattrs", ".zmetadata"}
        assert server.count == 3


# the field, then its four levels and the labels group, then the label, then its four levels
@root
@ways
def test_a_field_with_its_label_takes_eleven_requests_in_four_round_trips(
    tmp_path: Path, consolidated: bool, way: Way
) -> None:
    _plate(tmp_path, consolidated=consolidated)
    with CountingServer(tmp_path, LATENCY) as server:
        url = f"{server.url}/p.ome.zarr"
        assert _counted(server, lambda: way(url), 4) == (11, 4)
        assert server.misses == 0
        assert _nbytes(server) < 25_000
        field = way(url)
        assert len(field.ngff.levels) == 4
        assert len(field.ngff.labels["cells"].ngff.levels) == 4


@root
def test_without_the_name_of_the_engine_the_root_is_looked_at_first(
    tmp_path: Path, consolidated: bool
) -> None:
    _plate(tmp_path, consolidated=consolidated)
    with CountingServer(tmp_path, LATENCY) as server:
        url = f"{server.url}/p.ome.zarr"
        count, trips = _counted(server, lambda: xr.open_datatree(url, group="B/3/0"), 5)
        assert count <= 12
        assert trips <= 5


@pytest.mark.parametrize(("consolidated", "requests", "trips"), [(False, 12, 5), (True, 0, 0)])
def test_a_well_of_an_open_plate(
    tmp_path: Path, consolidated: bool, requests: int, trips: int
) -> None:
    _plate(tmp_path, consolidated=consolidated)
    with CountingServer(tmp_path, LATENCY) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr")
        assert _counted(server, lambda: plate.ngff.well("B/3"), trips) == (requests, trips)
        assert list(plate.ngff.well("B/3").ngff.fields["0"].ngff.labels) == ["cells"]


@root
def test_a_well_that_is_asked_for_at_once(tmp_path: Path, consolidated: bool) -> None:
    _plate(tmp_path, consolidated=consolidated)
    expected = (1, 1) if consolidated else (13, 6)
    with CountingServer(tmp_path, LATENCY) as server:
        url = f"{server.url}/p.ome.zarr"
        trips = expected[1]
        assert _counted(server, lambda: xr.open_datatree(url, wells=["B/3"]), trips) == expected


# a request for the plate, one for each of 24 wells and 48 fields, two levels each; in 0.5 one for
# the labels that a field might have, in 0.4 as well, and two more for the root
@pytest.mark.parametrize(("version", "requests"), [("0.5", 217), ("0.4", 219)])
def test_all_of_24_wells_with_2_fields_each(tmp_path: Path, version: str, requests: int) -> None:
    write_plate(
        tmp_path / "p.ome.zarr",
        version=version,
        rows="ABCD",
        columns=COLUMNS[:6],
        image={"axes": "yx", "shape": (16, 20)},
    )
    with CountingServer(tmp_path, LATENCY) as server:
        url = f"{server.url}/p.ome.zarr"
        count, trips = _counted(server, lambda: xr.open_datatree(url, wells="all"), 10)
        assert count == requests
        assert trips <= 10
        assert server.misses - (2 if version == "0.4" else 0) == 48
        plate = xr.open_datatree(url, wells="all")
        assert len(plate.ngff.images) == 48
        server.clear()
        plane = plate["D/6/1/0/image"].load()
    local = xr.open_datatree(tmp_path / "p.ome.zarr", group="D/6/1")
    np.testing.assert_array_equal(plane, local["0/image"])
    assert {request.path.rpartition("/c/")[0] for request in server.requests} <= {
        "/p.ome.zarr/D/6/1/0",
        "",
    }


def test_a_consolidated_plate_is_opened_whole_by_one_request(tmp_path: Path) -> None:
    write_plate(
        tmp_path / "p.ome.zarr",
        image={"axes": "yx", "shape": (16, 20)},
        labels={"cells": {}},
        consolidated=True,
    )
    with CountingServer(tmp_path) as server:
        plate = xr.open_datatree(f"{server.url}/p.ome.zarr", wells="all")
        assert server.count == 1
    assert len(plate.ngff.images) == 8
    assert all(list(image.ngff.labels) == ["cells"] for image in plate.ngff.images.values())


def test_one_well_that_cannot_be_reached_does_not_break_the_others(
    tmp_path: Path, server: CountingServer
) -> None:
    write_plate(tmp_path / "p.ome.zarr", image={"axes": "yx", "shape": (16, 20)})
    server.failures["/p.ome.zarr/A/2/zarr.json"] = 403
    server.failures["/p.ome.zarr/B/1/1/0/zarr.json"] = 403
    plate = xr.open_datatree(f"{server.url}/p.ome.zarr", wells="all")
    assert list(plate.ngff.images) == ["A/1/0", "A/1/1", "B/1/0", "B/2/0", "B/2/1"]
    assert len(plate.ngff.issues) == 2
    assert all("403" in issue.message for issue in plate.ngff.issues)


def test_a_series_asks_for_its_order_once(tmp_path: Path) -> None:
    write_series(tmp_path / "s.ome.zarr", image={"axes": "yx", "shape": (16, 20)})
    with CountingServer(tmp_path, LATENCY) as server:
        url = f"{server.url}/s.ome.zarr"
        # the root, OME, three images, and their two levels and the labels that they might have
        expected = 1 + 1 + 3 + 3 * 3
        assert _counted(server, lambda: xr.open_datatree(url), 4) == (expected, 4)
