"""A network that fails: what is retried, what is an error, and what is never taken for pixels."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import write_image
from unreliable import BACKENDS, FAULTS, PIXELS, Fault, Open, opener, outcome, pixels, write

from ngff_xarray import lazy
from ngff_xarray.errors import DeniedError, NgffError, SelectionError, StoreError
from ngff_xarray.storage import Guarded

pytest.importorskip("obstore")
pytest.importorskip("s3fs")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shards() -> Any:
    return None


@pytest.fixture
def opened(tmp_path: Path, server: CountingServer, backend: str, shards: Any) -> Iterator[Open]:
    """Opens an image of one level, 2 x 2 chunks, by each way to a server."""
    write(tmp_path, shards)
    with opener(backend, server) as open_:
        yield open_


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_comes_of_faults(
    tmp_path: Path, server: CountingServer, backend: str, fault: Fault
) -> None:
    write(tmp_path, (64, 64) if fault.is_shard else None)
    with opener(backend, server) as open_:
        found = outcome(open_, server, fault)
    follows = backend != "http"  # what speaks S3 follows redirections, as AWS has them
    expected = "read" if follows and "redirection" in fault.name else fault.expected
    assert re.search(expected, found.text)
    assert found.text in ("read", "filled") or "0/c/0/0" in found.text
    assert found.requests <= (2 * len(fault.plan) + 2 if found.text == "read" else 24)
    if "Denied" in found.text:
        assert found.requests <= 2  # it is not asked again and again


@pytest.mark.parametrize(
    "fault", [[503], [500, 500], [429], ["reset"], ["short"], [502, "reset", 504]], ids=str
)
@pytest.mark.parametrize("key", ["/zarr.json", "/0/zarr.json", "/0/c/1/0"])
def test_what_passes_is_retried(
    opened: Open, server: CountingServer, fault: list[Any], key: str
) -> None:
    server.faults[f"/bucket/a.ome.zarr{key}"] = list(fault)
    np.testing.assert_array_equal(pixels(opened()), PIXELS)
    assert not server.faults[f"/bucket/a.ome.zarr{key}"]


def test_what_does_not_pass_names_key_place_and_status(
    opened: Open, server: CountingServer, backend: str
) -> None:
    tree = opened()
    server.failures["/bucket/a.ome.zarr/0/c/1/1"] = 503
    with pytest.raises(StoreError, match=r"0/c/1/1: the server answered 503") as caught:
        pixels(tree)
    assert "a.ome.zarr" in str(caught.value)
    assert "tries)" in str(caught.value)
    # the other chunks can be had
    np.testing.assert_array_equal(tree["0/image"][:32, :32].values, PIXELS[:32, :32])


def test_missing_chunks_raise_in_local_stores_too(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", data=PIXELS, levels=1, chunks=(32, 32))
    (path / "0/c/0/0").unlink()
    assert pixels(xr.open_datatree(path))[0, 0] == 0
    with pytest.raises(StoreError, match=r"0/c/0/0: this chunk is not in the store"):
        pixels(xr.open_datatree(path, missing="raise"))


@pytest.mark.parametrize("shards", [(64, 64)])
def test_parts_of_shards(opened: Open, server: CountingServer, shards: Any) -> None:
    tree = opened()
    np.testing.assert_array_equal(tree["0/image"][:32, 32:].values, PIXELS[:32, 32:])
    key = "/bucket/a.ome.zarr/0/c/0/0"
    parts = [request for request in server.requests if request.path == key]
    assert [request.status for request in parts if request.method == "GET"] == [206, 206]
    # the index at the end, and one chunk: not the shard
    assert (
        sum(request.nbytes for request in parts)
        < 0.5 * (Path(server.root) / key[1:]).stat().st_size
    )


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up(opened: Open, server: CountingServer) -> None:
    tree = opened(timeout=4)
    server.faults["/bucket/a.ome.zarr/0/c/0/1"] = ["hang"] * 20
    with pytest.raises(StoreError, match=r"0/c/0/1: there was no answer in time"):
        pixels(tree)
    server.faults.clear()
    np.testing.assert_array_equal(pixels(tree), PIXELS)


def test_retries_leave_the_random_numbers_of_a_program_alone(
    opened: Open, server: CountingServer
) -> None:
    tree = opened()
    server.faults["/bucket/a.ome.zarr/0/c/0/1"] = [503, 503]
    random.seed(1)
    wanted = random.random()
    random.seed(1)
    np.testing.assert_array_equal(pixels(tree), PIXELS)
    assert random.random() == wanted


@pytest.mark.slow
def test_waiting_for_ones_turn_is_no_fault(tmp_path: Path, server: CountingServer) -> None:
    data = np.ones((80, 80), "u1")
    write_image(tmp_path / "b.ome.zarr", axes="yx", data=data, levels=1, chunks=(10, 10))
    url = f"{server.url}/b.ome.zarr"
    tree = xr.open_datatree(url, engine="ngff", connections=2, timeout=2, chunks={})
    server.latency = 0.1  # 64 chunks, two at a time: three seconds
    with dask.config.set(scheduler="threads", num_workers=32):
        assert (pixels(tree) == 1).all()


@pytest.mark.parametrize("backend", ["http"])
def test_no_other_host_is_asked_unless_it_is_trusted(
    opened: Open, server: CountingServer, backend: str
) -> None:
    target = server.url.replace("127.0.0.1", "localhost") + "/bucket/a.ome.zarr/0/c/0/0"
    key = "/bucket/a.ome.zarr/0/c/0/0"
    server.faults[key] = [f"to {target}"]
    with pytest.raises(StoreError, match=r"sends to another host, localhost: .*trust=True"):
        pixels(opened())
    server.faults[key] = [f"to {target}"]
    np.testing.assert_array_equal(pixels(opened(trust=True)), PIXELS)
    server.faults["/bucket/a.ome.zarr/0/c/1/1"] = [f"to {server.url}{key}"]  # the same host
    assert pixels(opened())[63, 63] == PIXELS[31, 31]


@pytest.mark.slow
def test_all_chunks_of_a_read_are_under_way_together(
    tmp_path: Path, server: CountingServer
) -> None:
    data = np.ones((160, 160), "u1")
    write_image(tmp_path / "b.ome.zarr", axes="yx", data=data, levels=1, chunks=(10, 10))
    server.latency = 0.05
    for connections, fewest in ((64, 48), (4, 2)):
        tree = xr.open_datatree(f"{server.url}/b.ome.zarr", engine="ngff", connections=connections)
        server.clear()
        assert (pixels(tree) == 1).all()
        assert fewest <= server.max_concurrent <= connections
        assert len(server.requests) == 256
    assert zarr.config.get("async.concurrency") == 10


def test_a_tree_is_pickled_with_its_patience(opened: Open, backend: str) -> None:
    if backend == "a store of obstore":
        pytest.skip("a store that was given is as it is")
    tree = opened(timeout=7, missing="raise")
    again = pickle.loads(pickle.dumps(tree))
    np.testing.assert_array_equal(pixels(again), PIXELS)


def test_secrets_are_not_shown(tmp_path: Path, server: CountingServer) -> None:
    write_image(tmp_path / "a.ome.zarr", axes="yx", data=PIXELS, levels=1)
    url = server.url.replace("http://", "http://me:s3cr3t@")
    tree = xr.open_datatree(f"{url}/a.ome.zarr")
    said = [repr(tree), repr(tree.ngff), tree._repr_html_(), tree.ngff._repr_html_()]
    said += [str(tree.attrs), str(tree["0/image"].encoding), str(tree.encoding)]
    server.failures["/a.ome.zarr/0/c/0/0"] = 403
    with pytest.raises(DeniedError) as caught:
        pixels(tree)
    said.append(str(caught.value))
    with pytest.raises(StoreError) as nowhere:
        xr.open_datatree(f"{url}/b.ome.zarr")
    said.append(str(nowhere.value))
    assert not [text for text in said if "s3cr3t" in text]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://no-such-host.invalid/a.ome.zarr", "there is no such host"),
        ("http://127.0.0.1:1/a.ome.zarr", "the connection was lost"),
        ("nonsense://bucket/a.ome.zarr", "nonsense"),
    ],
)
def test_places_that_are_none(url: str, message: str) -> None:
    with pytest.raises(NgffError, match=message):
        xr.open_datatree(url, engine="ngff")


@pytest.mark.parametrize(
    "options", [{"missing": "guess"}, {"timeout": 0}, {"connections": 0}], ids=str
)
def test_access_that_makes_no_sense(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="yx", data=PIXELS, levels=1)
    with pytest.raises(SelectionError, match="expected"):
        xr.open_datatree(path, **options)


def test_what_is_read_over_a_network_is_guarded(opened: Open) -> None:
    array = lazy.stored(opened()["0/image"].variable)
    assert array is not None
    assert isinstance(array.store_path.store, Guarded)
