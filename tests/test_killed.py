"""Writers that are killed, and disks that are full, at every single operation of a store."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from stores import write_image, write_plate
from watched import Watched
from zarr.core.buffer.cpu import Buffer

import ngff_xarray
from ngff_xarray.errors import (
    IncompleteError,
    NotOmeError,
    SelectionError,
    StoreError,
    StoreNotFoundError,
)

WRITTEN = ("0.4", "0.5", "0.6")
RNG = np.random.default_rng(0)


def image(path: Path) -> Any:
    pixels = RNG.integers(0, 99, (2, 40, 50)).astype("u2")
    array = xr.DataArray(pixels, dims=("z", "y", "x"))
    array.encoding["chunks"] = (1, 32, 32)
    return array.ngff.pyramid(scale_factors=[2, 2])


def smooth(path: Path) -> Any:
    return image(path).ngff.level(0).ngff.pyramid(scale_factors=[2, 2], method="gaussian")


def dots(path: Path) -> Any:
    """Labels of one pixel each, which are put in once a level is made."""
    pixels = np.zeros((40, 50), "u2")
    pixels[1::8, 2::8] = np.arange(1, 31).reshape(5, 6)
    array = xr.DataArray(pixels, dims=("y", "x"))
    array.encoding["chunks"] = (16, 32)
    return array.ngff.pyramid(scale_factors=[2, 2], keep_ids=True)


def with_labels(path: Path) -> Any:
    write_image(path, axes="yx", shape=(32, 32), levels=2, labels={"cells": {}, "nuclei": {}})
    return xr.open_datatree(path)


def plate(path: Path) -> Any:
    write_plate(path, rows="AB", columns="1", fields=1, image={"axes": "yx", "shape": (8, 8)})
    return xr.open_datatree(path, wells="all")


def same(store: Any, obj: xr.DataTree) -> bool:
    found = xr.open_datatree(store, engine="ngff", **({"wells": "all"} if "A" in obj else {}))
    xr.testing.assert_equal(found, obj)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("version", WRITTEN)
@pytest.mark.parametrize("made", [image, smooth, dots, with_labels, plate])
def test_whoever_is_killed_leaves_nothing_that_looks_whole(
    tmp_path: Path, made: Callable[[Path], Any], version: str
) -> None:
    obj = made(tmp_path / "a.ome.zarr")
    whole: dict[str, Any] = {}
    obj.ngff.to_zarr(Watched(whole, 10**9), version=version)
    for count in range(10**4):
        keys: dict[str, Any] = {}
        try:
            obj.ngff.to_zarr(Watched(keys, count), version=version)
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            break
        has_begun = "zarr.json" in keys or ".zattrs" in keys
        assert has_begun or len(keys) < 2
        with pytest.raises(IncompleteError if has_begun else StoreNotFoundError):
            xr.open_datatree(zarr.storage.MemoryStore(keys), engine="ngff")
        # killed again while it clears up, for some
        if count % 7 == 3:
            with pytest.raises(StoreError):
                obj.ngff.to_zarr(Watched(keys, count // 2), version=version)
        obj.ngff.to_zarr(zarr.storage.MemoryStore(keys), version=version)
        assert keys.keys() == whole.keys(), "no debris"
        assert same(zarr.storage.MemoryStore(keys), obj)
    assert count > 10
    assert same(zarr.storage.MemoryStore(keys), obj)


_WRITER = """
    import sys, time, numpy as np, xarray as xr, dask.array as da, ngff_xarray

    def slow(block_info=None):
        time.sleep(0.05)
        return np.ones(block_info[None]["chunk-shape"], "u2")

    pixels = da.map_blocks(slow, chunks=((16,) * 32, (512,)), dtype="u2")
    print("begins", flush=True)
    xr.DataArray(pixels, dims=("y", "x")).ngff.to_zarr(sys.argv[1], scale_factors=[2, 2])
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are killed")
@pytest.mark.parametrize("after", [0.1, 0.4, 0.7])
def test_a_killed_process(tmp_path: Path, after: float) -> None:
    path = tmp_path / "a.ome.zarr"
    command = [sys.executable, "-c", textwrap.dedent(_WRITER), str(path)]
    array = xr.DataArray(np.ones((512, 512), "u2"), dims=("y", "x"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "begins"
        deadline = time.monotonic() + 60
        while not (path / "0").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after)
        with pytest.raises(IncompleteError):
            xr.open_datatree(path)
        with pytest.raises(StoreError, match=rf"is being written by process {process.pid}"):
            array.ngff.to_zarr(path)
        process.kill()
    with pytest.raises(IncompleteError):
        xr.open_datatree(path)
    array.ngff.to_zarr(path, scale_factors=[2, 2])
    for level in xr.open_datatree(path).ngff.levels:
        assert (level.values == 1).all()
    assert ngff_xarray.validate(path).valid


_ON_A_FULL_DISK = """
    import sys, numpy as np, xarray as xr, ngff_xarray
    from pathlib import Path
    from ngff_xarray.errors import IncompleteError, StoreError

    def noise(n):
        return xr.DataArray(np.random.default_rng(0).random((n, 512)), dims=("y", "x"))

    def refused(write):
        try:
            write()
        except StoreError as error:
            assert "No space left" in str(error), error
        else:
            raise AssertionError("it was written")

    path = sys.argv[1] + "/a.ome.zarr"
    chunks = {"y": 64, "x": 64}
    refused(lambda: noise(1024).ngff.to_zarr(path, chunks=chunks))
    try:
        xr.open_datatree(path, engine="ngff")
    except IncompleteError:
        pass
    small = noise(320)
    small.ngff.to_zarr(path, chunks=chunks)
    files = sorted(Path(path).rglob("*"))
    refused(lambda: noise(512).ngff.to_zarr(path, mode="w", chunks=chunks))
    assert sorted(Path(sys.argv[1]).iterdir()) == [Path(path)]
    opened = xr.open_datatree(path)
    np.testing.assert_array_equal(opened.ngff.level(0), small)
    refused(lambda: opened.ngff.add_labels("cells", (noise(320) * 2**62).astype("i8"),
                                           chunks={"y": 320, "x": 512}))
    assert not list(xr.open_datatree(path).ngff.labels)
    ngff_xarray.repair(path).apply()
    tree = xr.open_datatree(path)
    np.testing.assert_array_equal(tree.ngff.level(0), small)
    assert not ngff_xarray.repair(path).leftovers and tree.ngff.verify().ok
    assert sorted(Path(path).rglob("*")) == files, "no debris"
"""


def test_a_full_disk(tmp_path: Path) -> None:
    space = f"mount -t tmpfs -o size=2m none {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", space], capture_output=True).returncode:
        pytest.skip("needs a disk of two megabytes (unshare, mount)")
    python = [sys.executable, "-c", textwrap.dedent(_ON_A_FULL_DISK), str(tmp_path)]
    command = ["unshare", "-rm", "sh", "-c", f'{space} && exec "$@"', "sh", *python]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_leaves_a_mark(tmp_path: Path) -> None:
    import dask.array as da

    def interrupt(block: Any) -> Any:
        if block.size:
            raise KeyboardInterrupt
        return block

    array = xr.DataArray(da.zeros((512, 512), chunks=256), dims=("y", "x"))
    broken = array.copy(data=da.map_blocks(interrupt, array.data, dtype="f8"))
    with pytest.raises(KeyboardInterrupt):
        broken.ngff.to_zarr(tmp_path / "a.ome.zarr", scale_factors=[2])
    with pytest.raises(IncompleteError):
        xr.open_datatree(tmp_path / "a.ome.zarr")
    array.ngff.to_zarr(tmp_path / "a.ome.zarr")


def test_marks_that_are_odd(tmp_path: Path) -> None:
    for said in ({"writing": 5}, {"writing": {}}, [], None, {"other": {"process": 1}}):
        group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w")
        group.attrs["ngff_xarray"] = said
        with pytest.raises(NotOmeError):
            xr.open_datatree(tmp_path / "a.ome.zarr", engine="ngff")
    group.attrs["ngff_xarray"] = {"writing": {"started": "\x1b[31m", "process": "7", "host": 3}}
    with pytest.raises(IncompleteError, match=r"begun \(\W\[31m\)"):
        xr.open_datatree(tmp_path / "a.ome.zarr", engine="ngff")


# ---- what takes the place of something ---------------------------------------------------------

ONES = xr.DataArray(np.ones((64, 64), "u2"), dims=("y", "x"))


def test_the_old_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    ONES.ngff.to_zarr(path)
    with pytest.raises(StoreError, match="or mode='w' to replace it"):
        ONES.ngff.to_zarr(path)
    opened = xr.open_dataset(path)["image"]
    (opened * 2).ngff.to_zarr(path, mode="w", scale_factors=[2])  # read of what it replaces
    assert (xr.open_datatree(path).ngff.level(1) == 2).all()
    assert [each.name for each in tmp_path.iterdir()] == ["a.ome.zarr"]

    def fail(block: Any) -> Any:
        return 1 // 0 if block.size else block

    lazy = ONES.chunk()
    broken = lazy.copy(data=lazy.data.map_blocks(fail, dtype="u2"))
    with pytest.raises(ZeroDivisionError):
        broken.ngff.to_zarr(path, mode="w")
    assert (xr.open_datatree(path).ngff.level(0) == 2).all()
    ONES.ngff.to_zarr(path, mode="w")  # and clears what that has left
    assert [each.name for each in tmp_path.iterdir()] == ["a.ome.zarr"]
    ONES.ngff.to_zarr(tmp_path / "b.ome.zarr", mode="w")  # where nothing is


def test_where_directories_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ngff_xarray.storage import swapping

    monkeypatch.setattr(swapping, "_exchanged", lambda made, target: False)
    path = tmp_path / "a.ome.zarr"
    for factor in (1, 2):
        (ONES * factor).ngff.to_zarr(path, mode="w")
        assert (xr.open_dataset(path)["image"] == factor).all()
    assert [each.name for each in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_what_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.txt").write_text("five years")
    with pytest.raises(StoreError, match="is no Zarr group, and is not replaced"):
        ONES.ngff.to_zarr(tmp_path / "thesis", mode="w")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(StoreError, match="is no Zarr group"):
        ONES.ngff.to_zarr(tmp_path / "a.txt", mode="w")
    memory = zarr.storage.MemoryStore()
    asyncio.run(memory.set("a/notes.txt", Buffer.from_bytes(b"five years")))
    with pytest.raises(StoreError, match="is no Zarr group"):
        ONES.ngff.to_zarr(zarr.storage.StorePath(memory, "a"), mode="w")
    with pytest.raises(SelectionError, match="expected 'w-' or 'w'"):
        ONES.ngff.to_zarr(tmp_path / "a.ome.zarr", mode="a")


_REPLACER = """
    import sys, numpy as np, xarray as xr, ngff_xarray

    for value in range(2, 1000):
        image = xr.DataArray(np.full((64, 64), value, "u2"), dims=("y", "x"))
        image.ngff.to_zarr(sys.argv[1], mode="w", chunks={"y": 8, "x": 8}, scale_factors=[2])
        print(value, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is a moment between")
@pytest.mark.parametrize("after", [1, 2, 5, 9])
def test_a_process_that_is_killed_while_it_replaces(tmp_path: Path, after: int) -> None:
    path = tmp_path / "a.ome.zarr"
    ONES.ngff.to_zarr(path)
    command = [sys.executable, "-c", textwrap.dedent(_REPLACER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
            levels = xr.open_datatree(path).ngff.levels
            assert len({int(value) for level in levels for value in np.unique(level)}) <= 2
        time.sleep(0.01 * after)
        process.kill()
    levels = xr.open_datatree(path).ngff.levels
    assert len({int(value) for level in levels for value in np.unique(level)}) == 1
    ONES.ngff.to_zarr(path, mode="w")
    assert [each.name for each in tmp_path.iterdir()] == ["a.ome.zarr"]


# ---- in stores that cannot exchange directories ------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "versions", [("0.5", "0.5"), ("0.4", "0.4"), ("0.4", "0.5"), ("0.5", "0.4")]
)
@pytest.mark.parametrize("made", [image, smooth, dots, with_labels, plate])
def test_a_bucket_keeps_the_old_until_the_new_is_whole(
    tmp_path: Path, made: Callable[[Path], Any], versions: tuple[str, str]
) -> None:
    new = made(tmp_path / "a.ome.zarr")
    old = new.map_over_datasets(lambda node: node * 0)
    before: dict[str, Any] = {}
    old.ngff.to_zarr(zarr.storage.MemoryStore(before), version=versions[0])
    whole = dict(before)
    new.ngff.to_zarr(zarr.storage.MemoryStore(whole), mode="w", version=versions[1])
    seen = set()
    for count in range(10**4):
        keys = dict(before)
        try:
            new.ngff.to_zarr(Watched(keys, count), mode="w", version=versions[1])
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            break
        seen.add(state(keys, old, new))
        if count % 5 == 3:  # killed again while it clears up
            with pytest.raises(StoreError):
                new.ngff.to_zarr(Watched(keys, count // 2), mode="w", version=versions[1])
            seen.add(state(keys, old, new))
        new.ngff.to_zarr(zarr.storage.MemoryStore(keys), mode="w", version=versions[1])
        assert state(keys, old, new) == "new"
        assert len(keys) == len(whole), "no debris"
    assert count > 10
    several = made in (with_labels, plate) or versions == ("0.5", "0.4")
    assert seen == {"old", "new", *(["incomplete"] if several else [])}


def state(keys: dict[str, Any], old: Any, new: Any) -> str:
    """Return what is found: all of the old, all of the new, or an error that says what to do."""
    options = {"wells": "all"} if "A" in old else {}
    try:
        tree = xr.open_datatree(zarr.storage.MemoryStore(keys), engine="ngff", **options)
    except IncompleteError:
        return "incomplete"
    is_old = all(pixels_equal(tree, old))
    assert is_old or all(pixels_equal(tree, new))
    return "old" if is_old else "new"


def pixels_equal(tree: Any, other: Any) -> list[bool]:
    """Tell for all arrays whether they are equal, in the order of the nodes."""
    both = [
        [array.values for node in each.subtree for array in node.data_vars.values()]
        for each in (tree, other)
    ]
    return [np.array_equal(a, b) for a, b in zip(*both, strict=True)]


def test_what_takes_the_place_of_something_in_memory() -> None:
    store = zarr.storage.MemoryStore()
    for factor in range(1, 4):  # read of what it replaces
        opened = ONES if factor == 1 else xr.open_datatree(store, engine="ngff").ngff.level(0) + 1
        opened.ngff.to_zarr(store, mode="w", scale_factors=[2] if factor == 3 else None)
    tree = xr.open_datatree(store, engine="ngff")
    assert [int(level.max()) for level in tree.ngff.levels] == [3, 3]
    tree.ngff.to_zarr(copy := zarr.storage.MemoryStore())
    assert sorted(xr.open_datatree(copy, engine="ngff")) == ["0", "1"], "names as ever elsewhere"

    def fail(block: Any) -> Any:
        return 1 // 0 if block.size else block

    lazy, before = ONES.chunk(), set(store._store_dict)
    with pytest.raises(ZeroDivisionError):
        lazy.copy(data=lazy.data.map_blocks(fail, dtype="u2")).ngff.to_zarr(store, mode="w")
    assert set(store._store_dict) == before
