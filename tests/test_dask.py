"""Levels as dask arrays: which blocks they have, and what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from servers import CountingServer
from stores import write_image

import ngff_xarray  # noqa: F401
from ngff_xarray.errors import SelectionError

NOISE = np.random.default_rng(0).integers(0, 2**16, (100, 150)).astype("u2")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    options = {"axes": "yx", "data": NOISE, "levels": 2, "chunks": (16, 16), "shards": (64, 64)}
    return write_image(tmp_path / "a.zarr", **options)


def test_blocks_are_shards_or_chunks(sharded: Path) -> None:
    tree = xr.open_datatree(sharded)
    assert tree.ngff.to_dask().chunks == ((64, 36), (64, 64, 22))
    assert tree.ngff.to_dask(by="chunks").chunksize == (16, 16)
    assert tree.ngff.to_dask(1).shape == tree.ngff.to_dask("1 µm").shape == (50, 75)
    np.testing.assert_array_equal(tree.ngff.to_dask(), NOISE)
    with pytest.raises(SelectionError):
        tree.ngff.to_dask(5)
    with pytest.raises(ValueError, match="'shards' or 'chunks'"):
        tree.ngff.to_dask(by="planes")


def test_crops_keep_to_the_blocks_of_the_store(sharded: Path) -> None:
    array = xr.open_datatree(sharded).ngff.levels[0].isel(y=slice(10, 90), x=slice(70, 140))
    found = array.ngff.to_dask()
    assert found.chunks == ((54, 26), (58, 12))
    np.testing.assert_array_equal(found, NOISE[10:90, 70:140])


def test_a_block_reads_its_shard_alone(sharded: Path, server: CountingServer) -> None:
    found = xr.open_datatree(f"{server.url}/a.zarr", engine="ngff").ngff.to_dask()
    server.clear()
    found[:64, :64].compute()
    assert {request.path for request in server.requests} == {"/a.zarr/0/c/0/0"}


def test_what_is_of_dask_stays_as_it_is(sharded: Path) -> None:
    tree = xr.open_datatree(sharded, chunks={"y": 64, "x": -1})
    assert tree.ngff.to_dask().chunks == ((64, 36), (150,))
