"""Other places that fsspec knows: memory, caches, zip files in a chain, clouds."""

from __future__ import annotations

import gc
import importlib.util
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import write_image
from test_zips import zipped

from ngff_xarray.errors import DeniedError, NgffError, StoreError, StoreNotFoundError

PIXELS = np.arange(64 * 64, dtype="u2").reshape(64, 64) + 1


@pytest.fixture(params=["0.4", "0.5"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image of 2 x 2 chunks that are stored as they are: half of one is no fault of a codec."""
    return write_image(
        tmp_path / "bucket" / "a.ome.zarr",
        version=request.param,
        axes="yx",
        data=PIXELS,
        levels=1,
        chunks=(32, 32),
    )


def opened(url: str, **options: Any) -> xr.DataTree:
    return xr.open_datatree(url, engine="ngff", **options)


def pixels(tree: xr.DataTree) -> Any:
    return tree["0/image"].values


def a_chunk(image: Path, y: int, x: int) -> str:
    found = "c/" if (image / "zarr.json").exists() else ""
    separator = "/" if found or (image / "0" / str(y)).is_dir() else "."
    return f"/bucket/a.ome.zarr/0/{found}{y}{separator}{x}"


def test_memory(image: Path) -> None:
    place = f"memory://{image.parent.parent.name}/a.ome.zarr"
    fsspec.filesystem("memory").put(str(image), place, recursive=True)
    np.testing.assert_array_equal(pixels(opened(place)), PIXELS)
    with pytest.raises(StoreNotFoundError, match=r"b\.ome\.zarr"):
        opened(place.replace("a.ome", "b.ome"))


# ---- caches ---------------------------------------------------------------------------------


@pytest.fixture(params=["simplecache", "filecache"])
def cache(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_cache_asks_for_each_key_once(
    image: Path, server: CountingServer, cache: str, tmp_path: Path
) -> None:
    url = f"{cache}::{server.url}/bucket/a.ome.zarr"
    options = {cache: {"cache_storage": str(tmp_path / "kept")}}
    tree = opened(url, storage_options=options)
    np.testing.assert_array_equal(pixels(tree), PIXELS)
    found = [request.path for request in server.requests if request.status == 200]
    assert len(found) == len(set(found))
    server.clear()
    np.testing.assert_array_equal(pixels(pickle.loads(pickle.dumps(tree))), PIXELS)
    np.testing.assert_array_equal(pixels(opened(url, storage_options=options)), PIXELS)
    assert {request.status for request in server.requests} == {404}  # what is not there is not kept
    flat = opened(url, storage_options={"cache_storage": str(tmp_path / "kept")})
    np.testing.assert_array_equal(pixels(flat), PIXELS)


def test_all_chunks_of_a_read_come_together(image: Path, server: CountingServer) -> None:
    tree = opened(f"simplecache::{server.url}/bucket/a.ome.zarr")
    server.clear()
    server.latency = 0.1
    pixels(tree)
    assert server.max_concurrent == 4


def test_parts_of_a_shard_are_cut_from_it(server: CountingServer, tmp_path: Path) -> None:
    write_image(
        tmp_path / "s.ome.zarr",
        axes="yx",
        data=PIXELS,
        levels=1,
        chunks=(32, 32),
        shards=(64, 64),
    )
    tree = opened(f"simplecache::{server.url}/s.ome.zarr")
    server.clear()
    for y, x in np.ndindex(2, 2):
        box = np.s_[32 * y : 32 * (y + 1), 32 * x : 32 * (x + 1)]
        np.testing.assert_array_equal(tree["0/image"][box].values, PIXELS[box])
    assert [request.status for request in server.requests] == [200]


@pytest.mark.parametrize("fault", [503, "reset", "short"])
def test_a_cache_keeps_nothing_that_is_not_whole(
    image: Path, server: CountingServer, cache: str, fault: int | str
) -> None:
    key = a_chunk(image, 0, 1)
    tree = opened(f"{cache}::{server.url}/bucket/a.ome.zarr")
    server.faults[key] = [fault]
    np.testing.assert_array_equal(pixels(tree), PIXELS)
    np.testing.assert_array_equal(pixels(tree), PIXELS)
    assert not server.faults[key]


def test_a_refusal_is_no_missing_chunk(image: Path, server: CountingServer, cache: str) -> None:
    key = a_chunk(image, 0, 1)
    tree = opened(f"{cache}::{server.url}/bucket/a.ome.zarr")
    server.failures[key] = 403
    with pytest.raises(DeniedError, match="403"):
        pixels(tree)
    server.failures.clear()
    server.faults[key] = ["page"]
    with pytest.raises(StoreError, match="page of HTML"):
        pixels(tree)
    server.faults[key] = [f"to {server.url.replace('127.0.0.1', 'localhost')}/x"]
    with pytest.raises(StoreError, match="another host"):
        pixels(tree)
    np.testing.assert_array_equal(pixels(tree), PIXELS)
    (server.root / key[1:]).unlink()
    with pytest.raises(StoreError, match="is not in the store"):
        pixels(opened(f"{cache}::{server.url}/bucket/a.ome.zarr", missing="raise"))


def test_a_temporary_cache_goes_with_its_store(
    image: Path, server: CountingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    tree = opened(f"simplecache::{server.url}/bucket/a.ome.zarr")
    pixels(tree)
    (kept,) = (tmp_path / "temporary").iterdir()
    assert list(kept.iterdir())
    del tree
    gc.collect()
    assert not kept.exists()


def test_caches_of_buckets(
    image: Path, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    given = {"s3": {"endpoint_url": server.url, "anon": True}}
    for has_obstore in (True, False):
        if not has_obstore:
            monkeypatch.setattr("ngff_xarray.storage.s3.is_for_obstore", lambda access: False)
        tree = opened("simplecache::s3://bucket/a.ome.zarr", storage_options=given)
        np.testing.assert_array_equal(pixels(tree), PIXELS)


def test_buckets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    kept = {"cache_storage": str(tmp_path / "kept")}
    for number in (1, 2):
        folder = tmp_path / str(number)
        write_image(folder / "bucket/a.ome.zarr", axes="yx", data=PIXELS * number, levels=1)
        with CountingServer(folder) as server:
            given = {"s3": {"endpoint_url": server.url, "anon": True}, "simplecache": kept}
            tree = opened("simplecache::s3://bucket/a.ome.zarr", storage_options=given)
            np.testing.assert_array_equal(pixels(tree), PIXELS * number)


@pytest.mark.parametrize("name", ["blockcache", "cached"])
def test_caches_that_keep_zeros_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match=r"take simplecache::http://host/a\.ome\.zarr"):
        opened(f"{name}::http://me:secret@host/a.ome.zarr")


def test_options_of_a_cache(image: Path, server: CountingServer) -> None:
    with pytest.raises(StoreError, match=r"takes the option cache_storage; found \['anon'\]"):
        opened(f"simplecache::{server.url}/bucket/a.ome.zarr", storage_options={"anon": True})


# ---- zip files ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["http", "path", "file", "simplecache"])
def test_an_image_in_a_folder_of_a_zip_file(
    image: Path, server: CountingServer, way: str, tmp_path: Path
) -> None:
    shutil.make_archive(str(tmp_path / "many"), "zip", tmp_path / "bucket", "a.ome.zarr")
    zipped(image, tmp_path / "one.ozx")
    places = {
        "http": server.url,
        "path": str(tmp_path),
        "file": f"file://{tmp_path}",
        "simplecache": f"simplecache::{server.url}",
    }
    np.testing.assert_array_equal(
        pixels(opened(f"zip://a.ome.zarr::{places[way]}/many.zip")), PIXELS
    )
    np.testing.assert_array_equal(pixels(opened(f"zip::{places[way]}/one.ozx")), PIXELS)
    with pytest.raises(StoreNotFoundError, match=r"many\.zip/b\.ome\.zarr"):
        opened(f"zip://b.ome.zarr::{places[way]}/many.zip")
    with pytest.raises(NgffError, match=r"none\.zip"):
        opened(f"zip://a.ome.zarr::{places[way]}/none.zip")


# ---- clouds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("gs://bucket/a.ome.zarr", "gcsfs"),
        ("gcs://bucket/a.ome.zarr", "gcsfs"),
        ("simplecache::gs://bucket/a.ome.zarr", "gcsfs"),
        ("az://container/a.ome.zarr", "adlfs"),
        ("abfs://container/a.ome.zarr", "adlfs"),
    ],
)
def test_what_to_install_is_said(url: str, package: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(StoreError, match=f"it needs {package}: pip install {package}"):
        opened(url)


def test_google_cloud(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # before it is imported: gRPC is what the emulator lacks
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    pytest.importorskip("gcsfs")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    try:
        url = f"http://127.0.0.1:{server._api._httpd.server_port}"
        options = {"endpoint_url": url, "token": "anon"}
        files = fsspec.filesystem("gs", **options)
        files.put(str(image), "bucket/a.ome.zarr", recursive=True)
        tree = opened("gs://bucket/a.ome.zarr", storage_options=options)
        np.testing.assert_array_equal(pixels(tree), PIXELS)
        tree.ngff.to_zarr("gs://bucket/b.ome.zarr", version="0.5", storage_options=options)
        again = opened("simplecache::gs://bucket/b.ome.zarr", storage_options={"gs": options})
        np.testing.assert_array_equal(pixels(again), PIXELS)
        with pytest.raises(StoreNotFoundError):
            opened("gs://bucket/c.ome.zarr", storage_options=options)
    finally:
        server.stop()
