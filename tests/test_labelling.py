"""Label images that are added to a store, replaced and removed: one at a time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from servers import CountingServer
from stores import document, edit_attributes, write_array, write_group, write_image, write_plate
from test_mending import in_memory, snapshot
from test_support import check_elsewhere, read_elsewhere
from watched import Watched

import ngff_xarray
from ngff_xarray.errors import (
    IncompleteError,
    NgffError,
    NotOmeError,
    SelectionError,
    StoreError,
    UnitError,
    UnsupportedError,
)
from ngff_xarray.labelling import set_properties

WRITTEN = ("0.4", "0.5", "0.6")
RNG = np.random.default_rng(0)
NUCLEI = RNG.integers(0, 5, (50, 62)).astype("u4") * 1000
SMALL = NUCLEI[:8, :9]
TABLE = pd.DataFrame({"label": [1000, 2000], "area": [12.5, 3.0], "kind": ["a", "µ"]})


@pytest.fixture(params=WRITTEN)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def image(path: Path, **options: Any) -> Path:
    """A c, y, x image of 50 x 62 pixels of half a micrometre in three levels."""
    return write_image(path / "a.ome.zarr", **{"axes": "cyx", **options})


def opened(source: Any) -> xr.DataTree:
    return xr.open_datatree(source, engine="ngff")


def _errors(tree: xr.DataTree) -> list[Any]:
    return [issue for issue in tree.ngff.issues if issue.severity == "error"]


# ---- what is written -------------------------------------------------------------------------


def test_add_replace_remove(tmp_path: Path, version: Any) -> None:
    path = image(tmp_path, version=version, labels={"cells": {}})
    before = snapshot(path)
    tree = opened(path)
    tree = tree.ngff.add_labels("nuclei", NUCLEI, properties=TABLE, colors={1000: "#ff0000"})
    assert list(tree.ngff.labels) == ["cells", "nuclei"]
    added = tree.ngff.labels["nuclei"]
    assert added.ngff.kind == "labels"
    assert added.ngff.colors[1000] == (255, 0, 0, 255)
    pd.testing.assert_frame_equal(
        added.ngff.properties,
        TABLE.rename(columns={"label": "label-value"}).set_index("label-value"),
    )
    assert tree.ngff.issues == ()
    for level, above in zip(added.ngff.levels, tree.ngff.levels, strict=True):
        assert level.dtype == "u4"
        assert set(np.unique(level)) <= set(np.unique(NUCLEI))
        for dim in ("y", "x"):
            xr.testing.assert_equal(level[dim].variable, above[dim].variable)
            assert level[dim].attrs == above[dim].attrs
    np.testing.assert_array_equal(added.ngff.level(0), NUCLEI)
    np.testing.assert_array_equal(read_elsewhere(path / "labels/nuclei/0"), NUCLEI)
    assert ngff_xarray.validate(path).issues == ()
    check_elsewhere(path, version, "Image")
    check_elsewhere(path / "labels" / "nuclei", version, "ImageLabel")

    tree = tree.ngff.add_labels("nuclei", NUCLEI + 1, replace=True)
    again = tree.ngff.labels["nuclei"]
    np.testing.assert_array_equal(again.ngff.level(0), NUCLEI + 1)
    np.testing.assert_array_equal(read_elsewhere(path / "labels/nuclei/0-r1"), NUCLEI + 1)
    assert again.ngff.colors == {}
    assert again.ngff.properties.empty
    assert ngff_xarray.validate(path).valid
    check_elsewhere(path / "labels" / "nuclei", version, "ImageLabel")
    assert {p.name for p in (path / "labels" / "nuclei").iterdir() if p.is_dir()} == {
        f"{number}-r1" for number in range(3)
    }
    tree = tree.ngff.add_labels("nuclei", NUCLEI, replace=True)
    assert tree.ngff.labels["nuclei"].encoding["level_paths"] == ("0-r2", "1-r2", "2-r2")

    tree = tree.ngff.remove_labels("nuclei")
    assert list(tree.ngff.labels) == ["cells"]
    assert _parsed(snapshot(path)) == _parsed(before)
    assert not (path / "labels" / "nuclei").exists()
    tree = tree.ngff.remove_labels("cells")
    assert tree.ngff.labels == {}
    assert not (path / "labels").exists()
    check_elsewhere(path, version, "Image")


def _parsed(files: dict[str, bytes]) -> dict[str, Any]:
    """Metadata as JSON, without regard to blanks; chunks as bytes."""
    names = (".zattrs", ".zgroup", ".zarray", "zarr.json", ".zmetadata")
    return {k: json.loads(v) if k.endswith(names) else v for k, v in files.items()}


def keys_of(path: Path) -> dict[str, Any]:
    """The files of a folder as a store in memory has them."""
    make = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes
    return {name: make(content) for name, content in snapshot(path).items()}


def test_nothing_else_is_read_or_written(tmp_path: Path, version: Any) -> None:
    path = image(tmp_path, version=version, labels={"cells": {}, "nuclei": {}})
    keys = keys_of(path)
    before = {key: value.to_bytes() for key, value in keys.items()}
    store = Watched(keys)
    tree = opened(store)
    tree = tree.ngff.add_labels("more", NUCLEI)
    tree = tree.ngff.add_labels("nuclei", NUCLEI, replace=True)
    tree.ngff.remove_labels("more")
    documents = (".zattrs", ".zgroup", ".zarray", "zarr.json", ".zmetadata")
    assert [key for key in store.read if not key.endswith(documents)] == []
    others = [key for key in before if not key.startswith("labels/nuclei/")]
    lists = {"labels/zarr.json", "labels/.zattrs"}
    for key in others:
        if key not in lists:
            assert keys[key].to_bytes() == before[key]
            assert key not in store.changed
    for key in lists & set(before):
        assert json.loads(keys[key].to_bytes()) == json.loads(before[key])


# ---- whoever is killed -----------------------------------------------------------------------


def _add(store: Any) -> None:
    opened(store).ngff.add_labels("new", SMALL, properties=TABLE)


def _replace(store: Any) -> None:
    opened(store).ngff.add_labels("nuclei", SMALL, replace=True)


def _remove(store: Any) -> None:
    opened(store).ngff.remove_labels("nuclei")


CASES: dict[str, tuple[Callable[[Any], None], tuple[str, ...], bool]] = {
    "add": (_add, ("cells",), False),
    "add the first": (_add, (), False),
    "add, consolidated": (_add, ("cells",), True),
    "replace": (_replace, ("cells", "nuclei"), False),
    "replace, consolidated": (_replace, ("nuclei",), True),
    "remove": (_remove, ("cells", "nuclei"), False),
    "remove the last": (_remove, ("nuclei",), False),
    "remove, consolidated": (_remove, ("cells", "nuclei"), True),
}


def _state(store: Any) -> dict[str, Any]:
    """Every label image that a reader sees, with its pixels and tables."""
    tree = opened(store)
    assert _errors(tree) == []
    return {
        name: (
            tuple(level.values.tobytes() for level in found.ngff.levels),
            found.ngff.properties.to_json(),
        )
        for name, found in tree.ngff.labels.items()
    }


KILLED = [(case, version) for case in CASES for version in ("0.4", "0.5")]
KILLED.remove(("add, consolidated", "0.4"))  # as the others
KILLED.remove(("remove, consolidated", "0.5"))


@pytest.mark.slow
@pytest.mark.parametrize(("case", "version"), KILLED)
def test_whoever_is_killed_leaves_the_old_or_the_new(
    tmp_path: Path, case: str, version: Any
) -> None:
    change, names, consolidated = CASES[case]
    path = image(
        tmp_path,
        version=version,
        levels=2,
        axes="yx",
        shape=SMALL.shape,
        labels={name: {} for name in names} or None,
        consolidated=consolidated,
    )
    start = keys_of(path)
    old = _state(zarr.storage.MemoryStore(dict(start)))
    whole = dict(start)
    change(Watched(whole))
    new = _state(zarr.storage.MemoryStore(whole))
    assert old != new
    seen = []
    for count in range(10**3):
        keys = dict(start)
        try:
            change(Watched(keys, count))
        except StoreError as error:
            assert "No space left" in str(error)
        else:
            break
        found = _state(zarr.storage.MemoryStore(keys))
        assert found in (old, new)
        seen.append(found == new)
        if count % 5 == 3:  # killed again while it clears up, for some
            try:
                change(Watched(keys, count // 2))
            except (StoreError, SelectionError):
                assert _state(zarr.storage.MemoryStore(keys)) in (old, new)
        try:
            change(Watched(keys))
        except SelectionError as error:  # it was removed, all of it
            assert "no label image" in str(error)
        assert _state(zarr.storage.MemoryStore(keys)) == new
        assert _others(keys) == _others(whole), "no debris"
    assert count > 3
    assert seen == sorted(seen), "it is committed once"
    print(case, version, count, "operations, new from", seen.index(True) if True in seen else count)


def _others(keys: dict[str, Any]) -> set[str]:
    """The keys, however often a label image was written."""
    return {re.sub(r"-r\d+/", "/", key) for key in keys}


def test_a_killed_replacement_is_told_from_an_added_one(tmp_path: Path) -> None:
    keys = keys_of(image(tmp_path, axes="yx", shape=SMALL.shape, labels={"nuclei": {}}))
    with pytest.raises(StoreError):
        _replace(Watched(keys, 4))
    with pytest.raises(StoreError, match="there is a label image of this name"):
        opened(Watched(keys)).ngff.add_labels("nuclei", SMALL)
    with pytest.raises(StoreError):
        _add(Watched(keys, 4))
    opened(Watched(keys)).ngff.remove_labels("new")
    assert not [key for key in keys if "/new/" in key]
    _replace(Watched(keys))
    assert "ngff_xarray" not in json.loads(keys["labels/zarr.json"].to_bytes())["attributes"]


def test_notes_lead_nowhere_else(tmp_path: Path) -> None:
    path = image(tmp_path, labels={"cells": {}, "nuclei": {}, "nuclei/deep": {}})
    file = path / "labels" / "zarr.json"
    said = json.loads(file.read_text())
    paths = ["../cells", "../../0", "", "/", ".", "deep", "deep/0", "1", 5]
    note = {"paths": paths, "replaces": True, "process": "x"}
    said["attributes"]["ngff_xarray"] = {"parts": {"nuclei": note, "gone": 5, "cells": []}}
    file.write_text(json.dumps(said))
    before = snapshot(path)
    tree = opened(path).ngff.add_labels("nuclei", NUCLEI, replace=True)
    np.testing.assert_array_equal(tree.ngff.labels["nuclei"].ngff.level(0), NUCLEI)
    after = snapshot(path)
    own = [key for key in before if re.match(r"labels/(zarr.json|nuclei/(zarr.json|\d/))", key)]
    assert {key: after.get(key) for key in before if key not in own} == {
        key: content for key, content in before.items() if key not in own
    }


def test_another_process_is_writing_it(tmp_path: Path) -> None:
    path = image(tmp_path, labels={"cells": {}})
    code = (
        "import sys, time, xarray as xr, dask.array as da, ngff_xarray\n"
        "def slow(block):\n"
        "    if block.size > 1: print('begins\\n', end='', flush=True); time.sleep(60)\n"
        "    return block\n"
        "labels = da.zeros((50, 62), dtype='u1', chunks=25).map_blocks(slow, dtype='u1')\n"
        "xr.open_datatree(sys.argv[1]).ngff.add_labels('new', labels)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "begins"
        tree = opened(path)
        assert list(tree.ngff.labels) == ["cells"]
        assert "ngff_xarray" not in tree["labels"].attrs
        if os.name == "posix":
            with pytest.raises(StoreError, match=f"is being written by process {process.pid}"):
                tree.ngff.add_labels("new", NUCLEI, wait=0)
        tree.ngff.add_labels("another", NUCLEI)  # at the same time
        process.kill()
    tree = opened(path).ngff.add_labels("new", NUCLEI)
    assert list(tree.ngff.labels) == ["cells", "another", "new"]
    np.testing.assert_array_equal(tree.ngff.labels["new"].ngff.level(0), NUCLEI)


def test_pixels_that_cannot_be_computed(tmp_path: Path) -> None:
    import dask.array as da

    def fail(block: Any) -> Any:
        raise ZeroDivisionError("by the user")

    path = image(tmp_path, labels={"nuclei": {}})
    old = _state(path)
    broken = da.zeros((50, 62), dtype="u1").map_blocks(fail, dtype="u1", meta=NUCLEI)
    tree = opened(path)
    with pytest.raises(ZeroDivisionError):
        tree.ngff.add_labels("nuclei", broken, replace=True)
    assert _state(path) == old
    tree = tree.ngff.add_labels("nuclei", NUCLEI, replace=True)
    assert tree.ngff.labels["nuclei"].ngff.level(0).equals(tree.ngff.labels["nuclei"].ngff.level(0))
    assert len(list((path / "labels" / "nuclei").iterdir())) == 4


# ---- where labels lie ------------------------------------------------------------------------


def test_a_part_with_coarser_pixels(tmp_path: Path, version: Any) -> None:
    tree = opened(image(tmp_path, version=version))
    part = tree.ngff.level(1).isel(c=0).ngff.crop(x=slice(10, 20), y=slice("5 µm", "9 µm"))
    labels = (part > 0).astype("u2") * 7
    tree = tree.ngff.add_labels("part", labels)
    found = tree.ngff.labels["part"]
    for dim in ("y", "x"):
        np.testing.assert_array_equal(found.ngff.level(0)[dim], part[dim])
        assert found.ngff.level(0)[dim].attrs == part[dim].attrs
    np.testing.assert_array_equal(found.ngff.level(0), labels)
    assert len(found.ngff.levels) == 3
    assert _errors(tree) == []


def test_a_tree_that_was_cropped_has_labels_where_it_is(tmp_path: Path) -> None:
    whole = opened(image(tmp_path))
    tree = whole.ngff.crop(x=slice(10, 20))
    labels = np.ones(tree.ngff.level(0).shape[1:], "u1")
    again = tree.ngff.add_labels("part", labels)
    assert again.ngff.level(0).shape == whole.ngff.level(0).shape
    xr.testing.assert_equal(again.ngff.labels["part"].ngff.level(0).x, tree.ngff.level(0).x)


def test_axes_of_arrays(tmp_path: Path) -> None:
    tree = opened(image(tmp_path, axes="tczyx", shape=(1, 2, 3, 40, 50), levels=2))
    pixels = RNG.integers(0, 9, (3, 40, 50)).astype("i8")
    shapes = {"space": pixels, "time": pixels[None], "all": pixels[None, None]}
    shapes |= {"named": xr.DataArray(pixels, dims=("z", "y", "x"))}
    shapes |= {"transposed": shapes["named"].transpose("x", "z", "y")}
    shapes |= {"backwards": tree.ngff.level(0)[:, 0].copy(data=pixels[None])[..., ::-1, :]}
    for name, labels in shapes.items():
        tree = tree.ngff.add_labels(name, labels)
        found = tree.ngff.labels[name].ngff.level(0)
        assert found.dims == ("t", "z", "y", "x")
        assert found.dtype == "i8"
        np.testing.assert_array_equal(found, pixels[None])
        xr.testing.assert_equal(found.z, tree.ngff.level(0).z)
    assert ngff_xarray.validate(tree.encoding["place"][0].url).valid


def test_one_position_of_many(tmp_path: Path) -> None:
    tree = opened(image(tmp_path, axes="tzyx"))
    plane = tree.ngff.level(0).isel(t=1, z=2)
    tree = tree.ngff.add_labels("plane", plane > 0)
    found = tree.ngff.labels["plane"].ngff.level(0)
    assert found.shape == (1, 1, 50, 62)
    assert (found.t.item(), found.z.item()) == (plane.t.item(), plane.z.item())
    tree = tree.ngff.add_labels("again", tree.ngff.labels["plane"].ngff.level(0).isel(t=0))
    xr.testing.assert_equal(tree.ngff.labels["again"].ngff.level(0), found)


def test_units_are_converted(tmp_path: Path) -> None:
    tree = opened(image(tmp_path))
    x = tree.ngff.level(0).x
    for unit in ("nanometer", "nm"):
        other = x.copy(data=x * 1000).assign_attrs(units=unit, pixel_size=500.0)
        labels = xr.DataArray(NUCLEI, dims=("y", "x"), coords={"x": other})
        tree = tree.ngff.add_labels("nm", labels, replace=True)
        found = tree.ngff.labels["nm"].ngff.level(0).x
        xr.testing.assert_equal(found.variable, x.variable)
        assert found.attrs == x.attrs
    tree = tree.ngff.add_labels("part", labels[:, 20:])
    np.testing.assert_allclose(tree.ngff.labels["part"].ngff.level(0).x, x[20:], rtol=1e-12)
    assert tree.ngff.labels["part"].ngff.level(0).x.attrs == x.attrs
    for unit in ("second", "furlong"):
        with pytest.raises(UnitError):
            tree.ngff.add_labels("x", labels.assign_coords(x=other.assign_attrs(units=unit)))


def test_levels_lie_on_those_of_the_image(tmp_path: Path) -> None:
    volume = xr.DataArray(
        np.zeros((9, 97, 61), "u2"),
        dims=("z", "y", "x"),
        coords={"z": np.arange(9) * 2.0, "y": np.arange(97) * 0.5, "x": np.arange(61) * 0.5},
    )
    path = tmp_path / "a.ome.zarr"
    volume.ngff.to_zarr(path, scale_factors=[{"y": 2, "x": 2}, {"y": 4, "x": 2}, 2])
    labels = RNG.integers(0, 9, volume.shape).astype("u2")
    tree = opened(path).ngff.add_labels("nuclei", labels)
    for level, wanted in zip(tree.ngff.labels["nuclei"].ngff.levels, tree.ngff.levels, strict=True):
        assert level.sizes == wanted.sizes
        for dim in volume.dims:
            xr.testing.assert_equal(level[dim], wanted[dim])
    tree = tree.ngff.add_labels("few", labels, levels=2, method="nearest")
    few = tree.ngff.labels["few"]
    assert len(few.ngff.levels) == 2
    np.testing.assert_array_equal(few.ngff.level(1)[0], labels[0, ::2, ::2])
    assert "the image has 4" in str(tree.ngff.issues)


def _at(x: Any, **attrs: Any) -> xr.DataArray:
    return xr.DataArray(
        np.ones((50, len(x)), "u1"), dims=("y", "x"), coords={"x": ("x", np.asarray(x), attrs)}
    )


# the image's x reaches from -0.25 to 30.75 in steps of 0.5
REFUSED: dict[str, tuple[Any, type[NgffError], str]] = {
    "larger": (_at(np.arange(63) * 0.5), SelectionError, "x: the labels reach from -0.25 to 31.25"),
    "before it": (_at(np.arange(10) * 0.5 - 0.5), SelectionError, "must lie within"),
    "outside": (_at(np.arange(10) * 0.5 + 99), SelectionError, "must lie within"),
    "nowhere": (_at([np.nan]), SelectionError, "must lie within"),
    "uneven": (_at([0, 1, 3]), UnsupportedError, "not evenly spaced"),
    "at one place": (_at([1.0, 1.0]), UnsupportedError, "not evenly spaced"),
    "of names": (_at(["a", "b"]), SelectionError, "coordinates of <U1"),
    "of time": (_at(np.arange(2).astype("M8[s]")), SelectionError, "expected numbers"),
    "another shape": (np.ones((50, 61), "u1"), SelectionError, r"\(50, 61\), expected \(1, 50"),
    "no coordinates": (
        xr.DataArray(np.ones((50, 9), "u1"), dims=("y", "x")),
        SelectionError,
        "9 pixels and no coordinates",
    ),
    "channels": (
        xr.DataArray(np.ones((2, 50, 62), "u1"), dims=("c", "y", "x")),
        SelectionError,
        "2 channels along c",
    ),
    "another axis": (
        xr.DataArray(np.ones((2, 50, 62), "u1"), dims=("q", "y", "x")),
        SelectionError,
        "axis 'q', expected y, x",
    ),
    "an axis too few": (
        xr.DataArray(np.ones(62, "u1"), dims="x"),
        SelectionError,
        "no axis y, along which the image has 50",
    ),
    "floats": (np.ones((50, 62)), UnsupportedError, "float64, expected integers"),
    "text": (np.full((50, 62), "a"), UnsupportedError, "expected integers"),
    "objects": (np.full((50, 62), None), UnsupportedError, "expected integers"),
    "empty": (_at(np.arange(0.0)), SelectionError, "no pixels"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image(tmp_path_factory.mktemp("kept"), labels={"cells": {}})


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_are_refused(kept: Path, case: str) -> None:
    labels, error, message = REFUSED[case]
    before = snapshot(kept)
    with pytest.raises(error, match=message):
        opened(kept).ngff.add_labels("new", labels)
    assert snapshot(kept) == before


@pytest.mark.parametrize("size", [97, 98, 99, 100])
def test_the_last_coarse_pixel_may_reach_beyond(tmp_path: Path, size: int) -> None:
    pixels = xr.DataArray(np.zeros((8, size), "u1"), dims=("y", "x"))
    pixels.ngff.to_zarr(tmp_path / "a.ome.zarr", levels=1)
    tree = opened(tmp_path / "a.ome.zarr")
    coarse = pixels.ngff.pyramid(scale_factors=[4]).ngff.level(1)
    tree = tree.ngff.add_labels("coarse", coarse)
    xr.testing.assert_equal(tree.ngff.labels["coarse"].ngff.level(0).x, coarse.x)
    more = xr.concat([coarse, coarse[:, -1:].assign_coords(x=coarse.x[-1:] + 4)], "x")
    with pytest.raises(SelectionError, match="must lie within"):
        tree.ngff.add_labels("more", more)


# ---- what labels are -------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "u8", ">u2", "?"])
def test_dtypes(tmp_path: Path, dtype: str, version: Any) -> None:
    tree = opened(image(tmp_path, version=version, axes="yx", levels=2))
    labels = (NUCLEI > 0).astype(dtype)
    if dtype.startswith("i"):  # negative labels are labels, too
        labels[:5] = -2
    found = tree.ngff.add_labels("new", labels).ngff.labels["new"].ngff.level(0)
    wanted = np.dtype("u1" if dtype == "?" else dtype)
    assert found.dtype == (wanted if version == "0.4" else wanted.newbyteorder("="))
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(
        read_elsewhere(tmp_path / "a.ome.zarr" / "labels" / "new" / "0"), labels
    )


def test_blocks_of_dask_are_computed_once_and_never_all_together(tmp_path: Path) -> None:
    import threading

    import dask.array as da

    alive, most, done = 0, 0, 0
    lock = threading.Lock()

    class Block(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    def make(block_info: Any = None) -> Any:
        nonlocal alive, most, done
        with lock:
            alive, done = alive + 1, done + 1
            most = max(most, alive)
        return np.ones(block_info[None]["chunk-shape"], "u2").view(Block)

    pixels = xr.DataArray(da.zeros((4096, 4096), "u1", chunks=1024), dims=("y", "x"))
    pixels.ngff.to_zarr(tmp_path / "a.ome.zarr", levels=2)
    labels = da.map_blocks(make, chunks=((64,) * 64, (4096,)), dtype="u2", meta=np.empty((0, 0)))
    tree = opened(tmp_path / "a.ome.zarr").ngff.add_labels("new", labels.astype("u2"))
    assert done == 64
    assert most < 64
    assert (tree.ngff.labels["new"].ngff.level(1) == 1).all()


def test_how_pixels_are_stored(tmp_path: Path) -> None:
    path = image(tmp_path, axes="yx")
    tree = opened(path)
    with pytest.raises(SelectionError, match="no whole chunks"):
        tree.ngff.add_labels("new", NUCLEI, chunks=(16, 16), shards=(24, 24))
    assert not (path / "labels").exists()
    tree = tree.ngff.add_labels("new", NUCLEI, chunks=(16, 16), shards={"y": 32}, compressor="zstd")
    found = zarr.open_array(path / "labels" / "new" / "0", mode="r")
    assert (found.chunks, found.shards) == ((16, 16), (32, 16))
    np.testing.assert_array_equal(tree.ngff.labels["new"].ngff.level(0), NUCLEI)


def test_a_label_image_of_another_store(tmp_path: Path) -> None:
    colors = [{"label-value": 1, "rgba": [1, 2, 3, 4]}]
    other = opened(image(tmp_path, labels={"cells": {"colors": colors}})).ngff.labels["cells"]
    path = write_image(tmp_path / "b.ome.zarr", axes="cyx")
    tree = opened(path).ngff.add_labels("copy", other)
    copy = tree.ngff.labels["copy"]
    np.testing.assert_array_equal(copy.ngff.level(0), other.ngff.level(0))
    assert copy.ngff.colors == {1: (1, 2, 3, 4)}
    pd.testing.assert_frame_equal(copy.ngff.properties, other.ngff.properties)
    tree = tree.ngff.add_labels("copy", copy, replace=True, colors={}, properties=[])
    assert tree.ngff.labels["copy"].ngff.colors == {}
    np.testing.assert_array_equal(tree.ngff.labels["copy"].ngff.level(0), other.ngff.level(0))


# ---- tables ----------------------------------------------------------------------------------

REGIONS = {"label": np.array([3, 7]), "area": np.array([2.5, np.nan]), "n": np.array([1, 2])}
TABLES: dict[str, Any] = {
    "columns": REGIONS,
    "label-value": {"label-value": [3, 7], "area": [2.5, None], "n": [1, 2]},
    "frame": pd.DataFrame(REGIONS),
    "index": pd.DataFrame(REGIONS).set_index("label"),
    "an index without a name": pd.DataFrame(REGIONS).set_index("label").rename_axis(None),
    "floats": pd.DataFrame({**REGIONS, "label": [3.0, 7.0]}),
    "rows": [
        {"label": 3, "area": np.float32(2.5), "n": 1},
        {"label": np.uint8(7), "n": 2},
    ],
    "missing": pd.DataFrame({**REGIONS, "area": pd.array([2.5, None], dtype="Float64")}),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(kept: Path, case: str) -> None:
    tree = opened(kept).ngff.add_labels("table", NUCLEI, properties=TABLES[case], replace=True)
    found = tree.ngff.labels["table"].ngff.properties
    assert found.index.tolist() == [3, 7]
    assert found.n.tolist() == [1, 2]
    assert found.area[3] == 2.5
    assert np.isnan(found.area[7])
    assert document(kept / "labels" / "table")["image-label"]["properties"][1] == {
        "label-value": 7,
        "n": 2,
    }
    intensities = pd.DataFrame({"label": [7, 3, 9], "mean": [70, 30, 90]}).set_index("label")
    joined = found.join(intensities, how="outer")
    assert joined.loc[[3, 7, 9], "mean"].tolist() == [30, 70, 90]


def test_regionprops(tmp_path: Path) -> None:
    measure = pytest.importorskip("skimage.measure")
    tree = opened(image(tmp_path, axes="yx"))
    labels = measure.label(NUCLEI > 3000)
    table = measure.regionprops_table(labels, properties=("label", "area", "centroid", "bbox"))
    tree = tree.ngff.add_labels("nuclei", labels, properties=table)
    found = tree.ngff.labels["nuclei"].ngff.properties
    wanted = pd.DataFrame(table).set_index("label").rename_axis("label-value")
    pd.testing.assert_frame_equal(found, wanted, check_index_type=False)


BAD_TABLES: dict[str, tuple[Any, type[NgffError], str]] = {
    "twice": ({"label": [1, 1], "a": [1, 2]}, SelectionError, "label 1 is there twice"),
    "no labels": (pd.DataFrame({"a": [1]}), SelectionError, "column 'label' or in the index"),
    "no labels in a row": ([{"a": 1}], SelectionError, "no 'label-value' or 'label'"),
    "halves": ({"label": [1.5]}, SelectionError, "expected an integer as label"),
    "names": ({"label": ["a"]}, SelectionError, "expected an integer as label"),
    "truth": ([{"label": True}], SelectionError, "expected an integer as label"),
    "lengths": ({"label": [1, 2], "a": [1]}, SelectionError, "are no table"),
    "a number": (5, SelectionError, "found int"),
    "numbers": ([5], SelectionError, "found list"),
    "infinite": ({"label": [1], "a": [np.inf]}, UnsupportedError, "those of label 1"),
    "objects": ({"label": [1], "a": [object()]}, UnsupportedError, "those of label 1"),
    "dates": ({"label": [1], "a": [pd.Timestamp(0)]}, UnsupportedError, "those of label 1"),
    "levels": (
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
        SelectionError,
        "column 'label' or in the index",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_tables_that_are_refused(kept: Path, case: str) -> None:
    table, error, message = BAD_TABLES[case]
    before = snapshot(kept)
    with pytest.raises(error, match=message):
        opened(kept).ngff.add_labels("new", NUCLEI, properties=table)
    assert snapshot(kept) == before


def test_colors(kept: Path) -> None:
    given = {
        1: "#ff8000",
        np.int64(2): "red",
        3: (1, 2, 3),
        4.0: [1, 2, 3, 4],
        5: (1.0, 0.5, 0),
        6: np.array([0, 0, 0, 0.5]),
        7: "#11223344",
    }
    tree = opened(kept).ngff.add_labels("colored", NUCLEI, colors=given, replace=True)
    assert tree.ngff.labels["colored"].ngff.colors == {
        1: (255, 128, 0, 255),
        2: (255, 0, 0, 255),
        3: (1, 2, 3, 255),
        4: (1, 2, 3, 4),
        5: (255, 128, 0, 255),
        6: (0, 0, 0, 128),
        7: (17, 34, 51, 68),
    }
    table = {"label": [-1, 2**63 + 5, 1], "n": [1, 2, 3]}
    tree = tree.ngff.add_labels("both", NUCLEI, colors={2: "red"}, properties=table, replace=True)
    both = tree.ngff.labels["both"].ngff
    assert list(both.colors) == [2, -1, 1, 2**63 + 5]
    assert both.properties.n.to_dict() == {-1: 1, 2**63 + 5: 2, 1: 3}
    before = snapshot(kept)
    for bad in ("no such", (1, 2), (256, 0, 0), (1.5, 0, 0), (-1, 0, 0), None, [[1], 2, 3], "#12"):
        with pytest.raises(SelectionError, match="is no colour"):
            opened(kept).ngff.add_labels("new", NUCLEI, colors={1: bad})
    for bad in ({"a": "red"}, {1.5: "red"}, {True: "red"}, ["red"], {float("nan"): "red"}):
        with pytest.raises(SelectionError, match="expected"):
            opened(kept).ngff.add_labels("new", NUCLEI, colors=bad)
    assert snapshot(kept) == before


@pytest.mark.parametrize("consolidated", [False, True])
def test_set_properties(tmp_path: Path, version: Any, consolidated: bool) -> None:
    labels: dict[str, Any] = {"cells": {"colors": [{"label-value": 1, "rgba": [9, 9, 9, 255]}]}}
    path = image(tmp_path, version=version, labels={**labels, "b": {}}, consolidated=consolidated)
    before = snapshot(path)
    tree = set_properties(opened(path), "cells", TABLE)
    for each in (tree, opened(path)):
        found = each.ngff.labels["cells"].ngff.properties
        assert found.loc[1000, "kind"] == "a" and list(found.columns) == ["area", "kind"]
        assert each.ngff.labels["cells"].ngff.colors[1] == (9, 9, 9, 255)
        assert _errors(each) == []
    kept = set_properties(tree, "cells", {"label": [1000, 7], "n": [3, 4]}, keep=True)
    found = kept.ngff.labels["cells"].ngff.properties
    assert found.loc[1000].to_dict() == {"area": 12.5, "kind": "a", "n": 3}
    assert found.loc[7, "n"] == 4 and found.loc[2000, "kind"] == "µ"
    changed = {key for key, content in snapshot(path).items() if before.get(key) != content}
    own = ".zattrs" if version == "0.4" else "zarr.json"
    whole = ".zmetadata" if version == "0.4" else "zarr.json"
    assert changed == {f"labels/cells/{own}", *([whole] if consolidated else [])}


def test_properties_are_not_set(tmp_path: Path) -> None:
    path = image(tmp_path, labels={"cells": {}})
    before = snapshot(path)
    with pytest.raises(SelectionError, match=r"no label image 'nuclei'; there are: cells"):
        set_properties(opened(path), "nuclei", TABLE)
    with pytest.raises(SelectionError, match="'label-value' or 'label'"):
        set_properties(opened(path), "cells", [{"area": 3}])
    assert snapshot(path) == before
    store = Watched(keys_of(path), 0)
    with pytest.raises(StoreError, match="cannot be written"):
        set_properties(opened(store), "cells", TABLE)


def test_tables_that_nobody_could_read_again(
    tmp_path: Path, version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path, version=version, labels={"cells": {}})
    before, tree = snapshot(path), opened(path)
    changing = sys.modules["ngff_xarray.store.changing"]  # the package has a function of that name
    monkeypatch.setattr(changing, "MAX_METADATA_BYTES", 10_000)
    many = {"label": np.arange(1, 1000), "area": np.arange(999.0)}
    with pytest.raises(StoreError, match=r"would take .* MB, and is not read beyond"):
        set_properties(tree, "cells", many)
    with pytest.raises(StoreError, match="table beside the image"):
        tree.ngff.add_labels("new", NUCLEI, properties=many)
    assert snapshot(path) == before


# ---- names and places ------------------------------------------------------------------------


NAMES = ["", " ", ".", "..", ".hidden", "__x", "a/b", "/", "a\\b", "a\nb", "a\x00", "\u202e"]


@pytest.mark.parametrize("name", [*NAMES, "zarr.json", "ä" * 101, 5, None])
def test_names_that_are_refused(kept: Path, name: Any) -> None:
    before = snapshot(kept)
    with pytest.raises(SelectionError, match="cannot be the name of a label image"):
        opened(kept).ngff.add_labels(name, NUCLEI)
    with pytest.raises(SelectionError):
        opened(kept).ngff.remove_labels(name)
    assert snapshot(kept) == before


def test_names_that_are_taken(tmp_path: Path) -> None:
    path = image(tmp_path, labels={"cells": {}, "sub/deep": {}})
    tree = opened(path)
    (path / "labels" / "notes").mkdir()
    (path / "labels" / "notes" / "a.txt").write_text("mine")
    write_group(path / "labels" / "plain", version="0.5", attributes={"a": 1})
    write_array(path / "labels" / "array", np.zeros(3), version="0.5")
    before = snapshot(path)
    with pytest.raises(StoreError, match=r"cells: there is a label image .* give replace=True"):
        tree.ngff.add_labels("cells", NUCLEI)
    for name in ("sub", "notes", "plain", "array"):
        for replace in (False, True):
            with pytest.raises(StoreError, match="something that is no label image"):
                tree.ngff.add_labels(name, NUCLEI, replace=replace)
    with pytest.raises(SelectionError, match="no label image 'other'; there are: cells, sub/deep"):
        tree.ngff.remove_labels("other")
    assert snapshot(path) == before
    tree = tree.ngff.add_labels("sub/deep", NUCLEI, replace=True)
    np.testing.assert_array_equal(tree.ngff.labels["sub/deep"].ngff.level(0), NUCLEI)
    tree = tree.ngff.remove_labels("sub/deep")
    assert list(tree.ngff.labels) == ["cells"]
    assert not (path / "labels" / "sub").exists()
    tree.ngff.remove_labels("cells")
    assert (path / "labels" / "notes" / "a.txt").read_text() == "mine"
    assert ngff_xarray.validate(path).valid


def test_labels_below_labels_stay(tmp_path: Path, version: Any) -> None:
    path = image(tmp_path, version=version, labels={"cells": {}, "cells/parts": {}})
    tree = opened(path)
    kept = snapshot(path / "labels" / "cells" / "parts")
    tree = tree.ngff.add_labels("cells", NUCLEI, replace=True)
    assert snapshot(path / "labels" / "cells" / "parts") == kept
    tree = tree.ngff.remove_labels("cells")
    assert list(tree.ngff.labels) == ["cells/parts"]
    assert snapshot(path / "labels" / "cells" / "parts") == kept
    tree.ngff.remove_labels("cells/parts")
    assert not (path / "labels").exists()


def test_label_images_of_other_writers(tmp_path: Path) -> None:
    path = image(tmp_path, labels={"cells": {}, "gone": {}, "hidden": {}})
    levels = [f"scale{i}/image" for i in range(3)]
    for folder in ("cells", "hidden"):
        for i, level in enumerate(levels):
            (path / "labels" / folder / level).parent.mkdir()
            (path / "labels" / folder / str(i)).rename(path / "labels" / folder / level)
        edit_attributes(
            path / "labels" / folder,
            lambda ome: [
                each.update(path=level)
                for each, level in zip(ome["multiscales"][0]["datasets"], levels, strict=True)
            ],
        )
    (path / "labels" / "gone" / "zarr.json").unlink()
    edit_attributes(path / "labels", lambda ome: ome.update(labels=["cells/", 5, "gone", "../x"]))
    tree = opened(path).ngff.add_labels("cells", NUCLEI, replace=True)
    np.testing.assert_array_equal(tree.ngff.labels["cells"].ngff.level(0), NUCLEI)
    assert len(list((path / "labels" / "cells").iterdir())) == 4
    with pytest.raises(SelectionError, match="cannot be the name"):
        tree.ngff.remove_labels("../x")
    with pytest.raises(StoreError, match="there is a label image"):  # which nobody lists
        tree.ngff.add_labels("hidden", NUCLEI)
    tree = tree.ngff.add_labels("hidden", NUCLEI, replace=True)
    tree = tree.ngff.add_labels("gone", NUCLEI, replace=True)
    assert list(tree.ngff.labels) == ["cells", "gone", "hidden"]
    for name in ("cells", "gone", "hidden"):
        tree = tree.ngff.remove_labels(name)
    assert document(path / "labels")["labels"] == [5, "../x"]


def test_a_list_beside_the_namespace(tmp_path: Path) -> None:
    path = image(tmp_path, labels={"cells": {}})
    file = path / "labels" / "zarr.json"
    said = json.loads(file.read_text())
    said["attributes"]["labels"] = said["attributes"]["ome"].pop("labels")
    file.write_text(json.dumps(said))
    tree = opened(path).ngff.add_labels("new", NUCLEI)
    assert list(tree.ngff.labels) == ["cells", "new"]
    attributes = json.loads(file.read_text())["attributes"]
    assert attributes == {"ome": {"version": "0.5", "labels": ["cells", "new"]}}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_consolidated_metadata_follow(tmp_path: Path, version: Any) -> None:
    path = image(tmp_path, version=version, labels={"cells": {}}, consolidated=True)
    tree = opened(path)
    tree = tree.ngff.add_labels("new", NUCLEI, properties=TABLE)
    assert list(tree.ngff.labels) == ["cells", "new"]
    group = zarr.open_group(path, mode="r", use_consolidated=True)
    np.testing.assert_array_equal(group["labels/new/0"][:], NUCLEI)
    tree = tree.ngff.add_labels("new", NUCLEI + 1, replace=True)
    assert (tree.ngff.labels["new"].ngff.level(0) == NUCLEI + 1).all()
    group = zarr.open_group(path, mode="r", use_consolidated=True)
    assert sorted(group["labels/new"]) == ["0-r1", "1-r1", "2-r1"]
    np.testing.assert_array_equal(group["labels/new/0-r1"][:], NUCLEI + 1)
    tree = tree.ngff.remove_labels("new").ngff.remove_labels("cells")
    assert tree.ngff.labels == {}
    group = zarr.open_group(path, mode="r", use_consolidated=True)
    assert "labels" not in list(group)
    with CountingServer(tmp_path) as server:  # a reader of these needs one request
        assert opened(f"{server.url}/{path.name}").ngff.labels == {}


def test_a_field_of_a_consolidated_plate(tmp_path: Path) -> None:
    path = write_plate(
        tmp_path / "p.ome.zarr",
        rows="A",
        columns="12",
        fields=1,
        image={"axes": "yx", "shape": (16, 16), "levels": 1},
        consolidated=True,
    )
    plate = xr.open_datatree(path, wells="all")
    field = plate["A/1/0"]
    found = field.ngff.add_labels("nuclei", np.eye(16, dtype="u1"))
    assert list(found.ngff.labels) == ["nuclei"]
    again = xr.open_datatree(path, wells="all")
    np.testing.assert_array_equal(again["A/1/0/labels/nuclei/0/labels"], np.eye(16))
    assert again["A/2/0"].ngff.labels == {}
    assert _errors(again) == []


def test_places(tmp_path: Path) -> None:
    path = image(tmp_path, axes="yx")
    store = zarr.storage.LocalStore(path)
    array = xr.DataArray(np.zeros((50, 62), "u2"), dims=("y", "x"))
    made = array.ngff.pyramid(levels=1)
    with pytest.raises(StoreError, match=r"write it with \.ngff\.to_zarr\(path\)"):
        made.ngff.add_labels("new", NUCLEI)
    tree = opened(path)
    tree = tree.ngff.add_labels("by path", NUCLEI, target=path)
    tree = tree.ngff.add_labels("by store", NUCLEI, target=store)
    tree = opened(store).ngff.add_labels("by its store", NUCLEI)
    assert list(tree.ngff.labels) == ["by path", "by store", "by its store"]
    before = snapshot(path)
    for source in (zarr.storage.LocalStore(path, read_only=True), zarr.open_group(path, mode="r")):
        with pytest.raises(StoreError, match="read-only"):
            opened(source).ngff.add_labels("new", NUCLEI)
        with pytest.raises(StoreError, match="read-only"):
            tree.ngff.remove_labels("by path", target=source)
    with CountingServer(tmp_path) as server:
        remote = opened(f"{server.url}/{path.name}")
        with pytest.raises(StoreError, match="read from a web server"):
            remote.ngff.add_labels("new", NUCLEI)
    with pytest.raises(NotOmeError, match="labels are added to images"):
        tree.ngff.labels["by path"].ngff.add_labels("new", NUCLEI)
    with pytest.raises(NgffError, match="no such file"):
        tree.ngff.add_labels("new", NUCLEI, target=tmp_path / "nothing")
    assert snapshot(path) == before


def test_a_store_of_fsspec(tmp_path: Path) -> None:
    tree = opened(in_memory(image(tmp_path), "labelled.ome.zarr"))
    tree = tree.ngff.add_labels("new", NUCLEI)
    tree = tree.ngff.add_labels("new", NUCLEI + 1, replace=True)
    np.testing.assert_array_equal(tree.ngff.labels["new"].ngff.level(0), NUCLEI + 1)
    assert tree.ngff.remove_labels("new").ngff.labels == {}


def test_a_cache_is_not_written_through(tmp_path: Path) -> None:
    url = in_memory(image(tmp_path), "cached.ome.zarr")
    tree = opened(f"simplecache::{url}")
    with pytest.raises(StoreError, match="read through a cache"):
        tree.ngff.add_labels("new", NUCLEI)
    assert opened(url).ngff.labels == {}
    tree = tree.ngff.add_labels("new", NUCLEI, target=url)
    np.testing.assert_array_equal(tree.ngff.labels["new"].ngff.level(0), NUCLEI)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = image(tmp_path, labels={"cells": {}})
    store = Watched(keys_of(path), 0)
    tree = opened(store)
    for change in (
        lambda: tree.ngff.add_labels("new", NUCLEI),
        lambda: tree.ngff.add_labels("cells", NUCLEI, replace=True),
        lambda: tree.ngff.remove_labels("cells"),
    ):
        with pytest.raises(StoreError, match="cannot be written"):
            change()
    assert store.changed == []


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_versions_that_are_not_written(tmp_path: Path, version: Any) -> None:
    path = image(tmp_path, version=version, labels={"cells": {}})
    before = snapshot(path)
    tree = opened(path)
    labels = np.zeros(tree.ngff.labels["cells"].ngff.level(0).shape, "u1")
    with pytest.raises(UnsupportedError, match=f"of version {version} in Zarr v2: write it anew"):
        tree.ngff.add_labels("new", labels)
    assert snapshot(path) == before


def test_zip_files_are_not_written(tmp_path: Path) -> None:
    from test_zips import zipped

    tree = xr.open_datatree(zipped(image(tmp_path), tmp_path / "a.ozx"))
    with pytest.raises(StoreError, match="cannot be written"):
        tree.ngff.add_labels("new", NUCLEI)


def test_an_unfinished_image_is_not_added_to(tmp_path: Path) -> None:
    path = image(tmp_path)
    tree = opened(path)
    zarr.open_group(path, mode="a").attrs["ngff_xarray"] = {"writing": {"started": "now"}}
    with pytest.raises(IncompleteError):
        tree.ngff.add_labels("new", NUCLEI)
