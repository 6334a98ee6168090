"""Levels that are copied as they are stored: nothing is unpacked, and nothing else is copied so."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import write_image
from watched import Watched

from ngff_xarray.errors import StoreError
from ngff_xarray.storage import Copying, are_alike

RNG = np.random.default_rng(0)
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4", "chunks": (8, 16, 16)},
    "0.5": {"version": "0.5", "chunks": (8, 16, 16)},
    "zstd": {"version": "0.5", "chunks": (8, 16, 16), "compressor": "zstd"},
    "shards": {"version": "0.6", "chunks": (4, 16, 16), "shards": (8, 32, 32)},
}


def volume(shape: tuple[int, ...] = (12, 50, 61)) -> xr.DataArray:
    pixels = RNG.integers(1, 2000, shape).astype("u2")
    return xr.DataArray(pixels, dims=("z", "y", "x"))


def written(
    path: Path, layout: str = "0.5", shape: tuple[int, ...] = (12, 50, 61), **options: Any
) -> xr.DataTree:
    """Write an image of three levels, with a chunk that is not there."""
    volume(shape).ngff.to_zarr(path, **{"scale_factors": [2, 2], **LAYOUTS[layout], **options})
    sorted(chunks(path / "0"))[0].unlink()
    return xr.open_datatree(path)


def chunks(path: Path) -> list[Path]:
    found = (each for each in path.rglob("*") if each.is_file())
    return [each for each in found if each.name[0].isdigit()]


def contents(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in chunks(path)}


def spoil(path: Path) -> None:
    """Make nonsense of all chunks: whoever unpacks one fails."""
    for each in chunks(path):
        each.write_bytes(b"nonsense" + each.read_bytes()[::-1])


# ---- what is copied ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tree_is_copied_without_unpacking_it(tmp_path: Path, layout: str) -> None:
    tree = written(tmp_path / "a.ome.zarr", layout)
    spoil(tmp_path / "a.ome.zarr")
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
    assert contents(tmp_path / "b.ome.zarr") == contents(tmp_path / "a.ome.zarr")
    with pytest.raises(StoreError, match="pixels cannot be read"):
        xr.open_datatree(tmp_path / "b.ome.zarr").ngff.level(0).load()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", [{}, {"method": "gaussian"}, {"method": "mode", "keep_ids": True}])
def test_a_pyramid_is_made_of_a_level_that_is_copied(
    tmp_path: Path, layout: str, how: dict[str, Any]
) -> None:
    level = written(tmp_path / "a.ome.zarr", layout).ngff.level(0)
    how = {"scale_factors": [2], **how}
    version = LAYOUTS[layout]["version"]
    level.ngff.to_zarr(tmp_path / "b.ome.zarr", version=version, **how)
    copy = contents(tmp_path / "b.ome.zarr" / "0")
    assert copy == contents(tmp_path / "a.ome.zarr" / "0"), "also the chunk that is not there"
    found = xr.open_datatree(tmp_path / "b.ome.zarr").ngff.level(1)
    wanted = level.load().ngff.pyramid(**how).ngff.level(1)
    np.testing.assert_array_equal(found.values, wanted.values)


def test_bytes_are_those_of_the_source_not_what_packing_would_make(tmp_path: Path) -> None:
    level = written(tmp_path / "a.ome.zarr", "0.4").ngff.level(0)
    other = numcodecs.Blosc("lz4", 9)
    for each in chunks(tmp_path / "a.ome.zarr"):
        each.write_bytes(other.encode(numcodecs.Blosc().decode(each.read_bytes())))
    level.ngff.to_zarr(tmp_path / "b.ome.zarr", version="0.4", scale_factors=[2])
    assert contents(tmp_path / "b.ome.zarr/0") == contents(tmp_path / "a.ome.zarr/0")


@pytest.mark.parametrize("separator", [".", "/"])
def test_keys_may_differ(tmp_path: Path, separator: str) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    pixels = RNG.integers(0, 99, (40, 30)).astype("u1")
    group.create_array(
        "0",
        data=pixels,
        chunks=(16, 16),
        chunk_key_encoding={"name": "v2", "separator": separator},
    )
    axes = [{"name": n, "type": "space"} for n in "yx"]
    datasets = [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    ]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    spoiled = tmp_path / "a.zarr" / "0" / f"1{separator}1"
    spoiled.write_bytes(b"nonsense")
    xr.open_datatree(tmp_path / "a.zarr").ngff.to_zarr(tmp_path / "b.zarr")
    assert (tmp_path / "b.zarr/0/1/1").read_bytes() == b"nonsense"
    spoiled.unlink()
    (tmp_path / "b.zarr/0/1/1").unlink()
    pixels[16:32, 16:] = 0
    np.testing.assert_array_equal(xr.open_datatree(tmp_path / "b.zarr")["0/image"].values, pixels)


def test_labels_plates_and_memory(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", labels={"cells": {}})
    tree = xr.open_datatree(path)
    spoil(path)
    store = Watched()
    tree.ngff.to_zarr(store)
    copied = {key for key in store._store_dict if key.rpartition("/")[2].isdigit()}
    assert copied == set(contents(path))
    assert all(store._store_dict[key].to_bytes() == contents(path)[key] for key in copied)


def test_an_image_is_copied_over_itself(tmp_path: Path) -> None:
    tree = written(tmp_path / "a.ome.zarr")
    before = contents(tmp_path / "a.ome.zarr")
    tree.ngff.to_zarr(tmp_path / "a.ome.zarr", mode="w")
    assert contents(tmp_path / "a.ome.zarr") == before
    store = Watched()
    tree.ngff.to_zarr(store)
    again = xr.open_datatree(store, engine="ngff")
    again.ngff.to_zarr(store, mode="w")
    for found, wanted in zip(
        xr.open_datatree(store, engine="ngff").ngff.levels, tree.ngff.levels, strict=True
    ):
        np.testing.assert_array_equal(found.values, wanted.values)


@pytest.mark.parametrize("what", ["tree", "level"])
def test_out_of_a_zip_file(tmp_path: Path, what: str) -> None:
    written(tmp_path / "a.ome.zarr")
    file = shutil.make_archive(str(tmp_path / "a.ome.zarr"), "zip", tmp_path / "a.ome.zarr")
    tree = xr.open_datatree(file)
    obj = tree if what == "tree" else tree.ngff.level(0)
    obj.ngff.to_zarr(tmp_path / "b.ome.zarr", levels=None if what == "tree" else 2)
    assert contents(tmp_path / "b.ome.zarr/0") == contents(tmp_path / "a.ome.zarr/0")


# ---- what is not -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.ngff.crop(x=slice(16, 32)),
        lambda tree: tree.ngff.map(lambda level: level + 1),
        lambda tree: tree.ngff.map(lambda level: level[::-1]),
        lambda tree: tree.ngff.map(lambda level: level.astype("u4")),
        lambda tree: tree.ngff.map(lambda level: level.transpose("z", "x", "y")),
        lambda tree: tree.ngff.map(
            lambda level: level[[1, 0, *range(2, len(level))]].assign_coords(z=level.z)
        ),
        lambda tree: tree.load(),
    ],
)
def test_what_was_cropped_or_computed_is_written_as_it_is(tmp_path: Path, change: Any) -> None:
    tree = change(written(tmp_path / "a.ome.zarr"))
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
    for found, wanted in zip(
        xr.open_datatree(tmp_path / "b.ome.zarr").ngff.levels, tree.ngff.levels, strict=True
    ):
        np.testing.assert_array_equal(found.values, wanted.values)


def test_what_was_changed_in_place_is_written_as_it_is(tmp_path: Path) -> None:
    tree = written(tmp_path / "a.ome.zarr")
    tree["0/image"][1, 2, 3] = 7777
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
    assert xr.open_datatree(tmp_path / "b.ome.zarr")["0/image"][1, 2, 3] == 7777


@pytest.mark.parametrize(
    "options",
    [
        {"compressor": "zstd"},
        {"chunks": (12, 16, 16)},
        {"shards": {"z": 8, "y": 32, "x": 32}},
        {"version": "0.4"},
    ],
)
def test_another_layout_is_packed_anew(tmp_path: Path, options: dict[str, Any]) -> None:
    tree = written(tmp_path / "a.ome.zarr")
    tree.ngff.to_zarr(tmp_path / "b.ome.zarr", **options)
    assert contents(tmp_path / "b.ome.zarr") != contents(tmp_path / "a.ome.zarr")
    found = xr.open_datatree(tmp_path / "b.ome.zarr")
    np.testing.assert_array_equal(found["0/image"].values, tree["0/image"].values)


@pytest.mark.parametrize(
    "other",
    [
        {"shape": (10, 11)},
        {"dtype": "i2"},
        {"chunks": (5, 5)},
        {"fill_value": 1},
        {"compressors": None},
        {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
        {"shards": (8, 8)},
        {"zarr_format": 2},
    ],
)
def test_arrays_that_are_not_alike(other: dict[str, Any]) -> None:
    options: dict[str, Any] = {"shape": (10, 10), "dtype": "<u2", "chunks": (4, 4), "fill_value": 0}
    one, same, another = (
        zarr.create_array(zarr.storage.MemoryStore(), **{**options, **extra})
        for extra in ({}, {"attributes": {"a": 1}, "dimension_names": ["y", "x"]}, other)
    )
    assert are_alike(one, same)
    assert not are_alike(one, another)


def test_fill_values_that_are_not_a_number_are_alike() -> None:
    one, other = (
        zarr.create_array(
            zarr.storage.MemoryStore(), shape=(4,), chunks=(4,), dtype="f4", fill_value=np.nan
        )
        for _ in range(2)
    )
    assert are_alike(one, other)


# ---- networks, memory and faults ---------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["tree", "level"])
def test_from_a_network_each_chunk_is_got_once(tmp_path: Path, layout: str, what: str) -> None:
    written(tmp_path / "a.ome.zarr", layout, (16, 64, 64))
    with CountingServer(tmp_path, 0.02) as server:
        tree = xr.open_datatree(f"{server.url}/a.ome.zarr")
        server.clear()
        if what == "tree":
            tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
        else:
            options = {"version": LAYOUTS[layout]["version"], "scale_factors": [2, 2]}
            tree.ngff.level(0).ngff.to_zarr(tmp_path / "b.ome.zarr", **options)
        counts = Counter(request.path for request in server.requests if request.path[-1].isdigit())
        if what == "tree":
            assert server.max_concurrent > 2  # as many as threads, it would be otherwise
    assert contents(tmp_path / "b.ome.zarr/0") == contents(tmp_path / "a.ome.zarr/0")
    wanted = {f"/a.ome.zarr/0/{key}": 1 for key in contents(tmp_path / "a.ome.zarr/0")}
    assert {path: counts[path] for path in wanted} == wanted


def test_a_chunk_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    written(tmp_path / "a.ome.zarr")
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/a.ome.zarr")
        server.faults["/a.ome.zarr/0/c/1/1/1"] = [403]
        with pytest.raises(StoreError, match=r"cannot read 0/c/1/1/1"):
            tree.ngff.to_zarr(tmp_path / "b.ome.zarr")
        again = xr.open_datatree(f"{server.url}/a.ome.zarr", missing="raise")
        with pytest.raises(StoreError, match=r"0/c/0/0/0: this chunk is not in the store"):
            again.ngff.to_zarr(tmp_path / "c.ome.zarr")


@pytest.mark.parametrize("what", ["tree", "level"])
def test_a_full_target_is_told_of(tmp_path: Path, what: str) -> None:
    written(tmp_path / "a.ome.zarr")
    with CountingServer(tmp_path) as server:
        tree = xr.open_datatree(f"{server.url}/a.ome.zarr")
        obj = tree if what == "tree" else tree.ngff.level(0)
        with pytest.raises((StoreError, OSError), match=r"cannot be written: .*No space left"):
            obj.ngff.to_zarr(Watched(left=20), levels=None if what == "tree" else 2)


def test_few_of_large_shards_are_under_way() -> None:
    counts = []
    for side in (64, 512, 1024):
        arrays = [
            zarr.create_array(
                zarr.storage.MemoryStore(),
                shape=(4096,) * 3,
                shards=(side,) * 3,
                chunks=(64, 64, 64),
                dtype="u1",
            )
            for _ in range(2)
        ]
        counts.append(Copying(*arrays)._connections())
    assert counts == [16, 2, 1]
